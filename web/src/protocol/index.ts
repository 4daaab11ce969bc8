/** Messages between devices and the cloud. */

export { changed, tensorName } from "./changes";
export * from "./credentials";
export { openNotice, refusal, replaces } from "./notice";
export { openPackage } from "./package";
export { encodeRequest } from "./request";
export { checkDelegation, checkManifest, isDelegation } from "./root";
export { makeKey, publicKeyHex } from "./signing";
