/** Client of the operator's API. The token is kept while the tab is open. */

import { signal } from "@preact/signals";

export interface Operator {
  name: string;
  role: "viewer" | "operator" | "admin";
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const KEPT = "paramcast operator";
let token = sessionStorage.getItem(KEPT);

/** Operator who is signed in; null if there is none; undefined while a kept token is checked. */
export const operator = signal<Operator | null | undefined>(token ? undefined : null);
/** Reason why the operator was signed out. */
export const whyOut = signal<string | null>(null);

/** Sign in with a token, if the service knows it. */
export async function signIn(given: string | null = token): Promise<void> {
  token = given;
  const found = await call<Operator>("/me");
  sessionStorage.setItem(KEPT, given!);
  whyOut.value = null;
  operator.value = found;
}

export function signOut(why: string | null = null): void {
  token = null;
  sessionStorage.removeItem(KEPT);
  whyOut.value = why;
  operator.value = null;
}

const ROLES = ["viewer", "operator", "admin"];

export function may(role: Operator["role"]): boolean {
  return ROLES.indexOf(operator.value?.role ?? "") >= ROLES.indexOf(role);
}

/** Send GET, or POST with a body. An operator whose token is no longer valid is signed out. */
export async function request(path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { authorization: `Bearer ${token}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const options = {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: JSON.stringify(body),
    signal,
  };
  const reply = await fetch(`v1/operator${path}`, options);
  if (reply.ok) return reply;
  const told: unknown = await reply.json().catch(() => null);
  const why = (told as { error?: string } | null)?.error ?? `the service answered ${reply.status}`;
  if (reply.status === 401) signOut("The service does not know this token, or no longer.");
  throw new ApiError(reply.status, why);
}

export async function call<T>(path: string, body?: unknown): Promise<T> {
  return (await (await request(path, body)).json()) as T;
}
