/** What devices and the cloud say to each other. */

export { changed, tensorName } from "./changes";
export * from "./credentials";
export { openPackage } from "./package";
export { encodeRequest } from "./request";
export { makeKey, publicKeyHex } from "./signing";
