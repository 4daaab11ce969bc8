/** Request of a device, byte for byte as `paramcast.protocol.AdaptRequest.encode` writes it. */

import { type Bytes } from "./bytes";
import { MessageError } from "./errors";
import { DEVICE_ID, MAX_CLIPS, MAX_QUERIES, MAX_REQUEST_BYTES, SHA256 } from "./limits";
import { int8Rows } from "./quantize";
import { packBytes } from "./tensors";

/** Rows of equal length. */
export type Rows = readonly Float32Array[];

export interface AdaptRequest {
  device: string;
  /** sha256 of the base model. */
  model: string;
  /** Highest sequence number that the device has run; 0 if it has only run the base. */
  sequence: number;
  /** One row for each clip. */
  anchors: Rows;
  queries: Rows;
  /** For each query, the row of `anchors` of its clip. */
  clipOfQuery: readonly number[];
  /** Length of a query's row, which is known even without a query. */
  queryDim: number;
}

/** Encode a request. @throws MessageError if a field is outside its limits. */
export function encodeRequest(request: AdaptRequest): Bytes {
  const { anchors, queries, clipOfQuery } = request;
  check(request);
  const anchorBytes = int8Rows(flat(anchors), anchors.length, () => []);
  const queryBytes = int8Rows(flat(queries), queries.length, (row) => [clipOfQuery[row]]);
  const data = packBytes(
    { d: request.device, m: request.model, s: String(request.sequence) },
    {
      a: { shape: [anchors.length, anchors[0].length + 4], bytes: anchorBytes },
      q: { shape: [queries.length, request.queryDim + 5], bytes: queryBytes },
    },
  );
  if (data.length > MAX_REQUEST_BYTES) {
    throw new MessageError(`the request has ${data.length} bytes, more than ${MAX_REQUEST_BYTES}`);
  }
  return data;
}

function check({ device, model, sequence, anchors, queries, clipOfQuery, queryDim }: AdaptRequest): void {
  if (!DEVICE_ID.test(device)) throw new MessageError("the device's name is malformed");
  if (!SHA256.test(model)) throw new MessageError("the model must be a sha256 of 64 lower-case hex digits");
  if (!Number.isSafeInteger(sequence) || sequence < 0)
    throw new MessageError("the sequence number is no number");
  if (anchors.length < 1 || anchors.length > MAX_CLIPS) {
    throw new MessageError(`anchors must have 1 to ${MAX_CLIPS} rows, not ${anchors.length}`);
  }
  if (queries.length > MAX_QUERIES) throw new MessageError(`there are more than ${MAX_QUERIES} queries`);
  if (clipOfQuery.length !== queries.length || clipOfQuery.some((clip) => !(clip in anchors))) {
    throw new MessageError("every query must name its clip");
  }
  if (
    anchors.some((row) => row.length !== anchors[0].length) ||
    queries.some((row) => row.length !== queryDim)
  ) {
    throw new MessageError("rows must be of one length");
  }
  if (![...anchors, ...queries].every((row) => row.every(Number.isFinite))) {
    throw new MessageError("the features hold NaN or an infinity");
  }
}

function flat(rows: Rows): Float32Array {
  return Float32Array.from(rows.flatMap((row) => [...row]));
}
