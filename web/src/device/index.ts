/** `@paramcast/device`: run an exported module as a device, in a browser or in Node. */

export type { NdArray, TypedArray } from "./arrays";
export { browserTable } from "./browser_table";
export type { Exchange } from "./cloud";
export { Device, type Options, type Status } from "./device";
export type { NoticeStatus, WhenExpired } from "./parameters";
export { ArtifactError, CloudError, DeviceInputError, NotEnrolled } from "./errors";
export type { Inputs, TensorSpec } from "./inputs";
export type { Runtime } from "./module_graphs";
export { memoryTable, type Table } from "./store";
export type { Nested } from "./trees";
export { PackageError, type Rule } from "../protocol/errors";
export type { Package } from "../protocol/package";
