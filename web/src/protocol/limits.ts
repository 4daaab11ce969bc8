/** Limits of the wire format, equal to those in `paramcast.protocol.limits`. */

export const MAX_REQUEST_BYTES = 256 * 1024;
export const MAX_PACKAGE_BYTES = 64 * 1024 * 1024;
export const MAX_PACKAGE_HEADER_BYTES = 1024 * 1024;
export const MAX_DIMENSIONS = 8;
export const MAX_CLIPS = 256;
export const MAX_QUERIES = 2048;
export const QUERIES_A_CLIP = 8; // a device sends their mean
export const MAX_SEQUENCE = Number.MAX_SAFE_INTEGER;
export const MAX_TIME = Number.MAX_SAFE_INTEGER;
export const MAX_EFFECT_NUMBERS = 64;
export const MAX_EFFECT_BYTES = 4 + 2 * MAX_EFFECT_NUMBERS; // a tag, and 16 bits for each number
export const MAX_JUMP = 2 ** 20; // of a sequence number above the previous one
export const MAX_NOTICE_BYTES = 4096;
export const MAX_WITHDRAWN = 256; // versions in a notice

export const DEVICE_ID = /^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$/;
export const SHA256 = /^[0-9a-f]{64}$/;
export const FORM = /^[a-z][a-z0-9_+-]{0,31}$/;
export const TENSOR_NAME = /^[A-Za-z0-9_]+([.-][A-Za-z0-9_]+){0,31}$/;
export const MAX_TENSOR_NAME = 200;
export const MAX_TENSOR_PARTS = 32; // as TENSOR_NAME allows
