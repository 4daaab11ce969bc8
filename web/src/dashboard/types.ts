/** Answers of the service; see also `/openapi.json` of a running service. Times are unix milliseconds. */

export interface Gain {
  mean: number;
  low: number | null;
  high: number | null;
  count: number;
}

export interface Bucket {
  begins_at: number;
  packages: number;
  bytes_up: number;
  bytes_down: number;
  latency_p50_ms: number | null;
  latency_p95_ms: number | null;
}

export interface Overview {
  since: number;
  until: number;
  devices: { known: number; active: number; adapted: number; applied: number; refused: number };
  timeline: Bucket[];
  total: Bucket;
  gain: Gain | null;
  reasons: { reason: string; devices: number }[];
}

export interface Glance {
  overview: Overview;
  answers: Record<string, number>;
  waiting: number;
}

export interface Listed {
  id: string;
  first_seen_at: number;
  last_seen_at: number;
  sequence: number;
  access: "open" | "enrolled" | "revoked";
  applied: boolean | null;
  gain: number | null;
  reason: string | null;
}

export interface Devices {
  total: number;
  devices: Listed[];
  next: string | null;
}

/** x and y are hundredths of a standard deviation; null for packages that were issued before the map existed. */
export interface Issued {
  sequence: number;
  model: string;
  version: number | null;
  form: string;
  context: string;
  clips: number;
  queries: number;
  bytes: number;
  request_bytes: number | null;
  latency_us: number;
  issued_at: number;
  expires_at: number;
  x: number | null;
  y: number | null;
}

export interface Report {
  sequence: number;
  applied: boolean;
  gain: number | null;
  reason: string | null;
  received_at: number;
}

export interface Device {
  id: string;
  first_seen_at: number;
  last_seen_at: number;
  sequence: number;
  model: string | null;
  keys: string[] | null;
  packages: Issued[];
  reports: Report[];
  gain: Gain | null;
}

export interface FleetMap {
  models: { model: string; devices: number }[];
  model: string | null;
  left: number;
  bottom: number;
  size: number;
  cells: number;
  occupied: { column: number; row: number; devices: number }[];
  outside: number;
}

export interface Version {
  version: number | null;
  model: string;
  form: string;
  task: string | null;
  share: number | null;
  standing: "serving" | "replaced" | "withdrawn" | "folder";
  published_at: number | null;
  withdrawn_at: number | null;
  packages: number;
  devices: number;
  bytes_up: number | null;
  bytes_down: number | null;
  latency_ms: number | null;
  applied: number;
  refused: number;
  gain: Gain | null;
}

export interface Comparison {
  first: Version;
  second: Version;
  difference: Gain | null;
}

/** Recalled updates of a base model; `since` is 0 where no update is recalled by its issue time. */
export interface Recall {
  model: string;
  number: number;
  since: number;
  to_base: boolean;
  withdrawn: number[];
}

/** Recorded action; `who` did it, and `device` is the device that it concerns. */
export interface Act {
  id: number;
  at: number;
  who: string;
  what: string;
  device: string | null;
  about: Record<string, unknown>;
}
