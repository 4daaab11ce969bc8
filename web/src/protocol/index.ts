/** What devices and the cloud say to each other. */

export { changed, tensorName } from "./changes";
export * from "./credentials";
export { openNotice, refusal, replaces } from "./notice";
export { openPackage } from "./package";
export { encodeRequest } from "./request";
export { checkDelegation, checkManifest, isDelegation } from "./root";
export { makeKey, publicKeyHex } from "./signing";
