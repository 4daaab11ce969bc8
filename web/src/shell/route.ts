/** Which page is shown: what stands behind the `#` of the address. */

import { signal } from "@preact/signals";

export interface Route {
  /** The parts of the path: `#/devices/cam-1` is ["devices", "cam-1"]. */
  parts: string[];
  query: URLSearchParams;
}

export const route = signal<Route>(read());

addEventListener("hashchange", () => void (route.value = read()));

function read(): Route {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand: it leads to a page that says that there is no such thing
  }
}

/** The address of a page; what is empty is left out. */
export function to(parts: string[], query: Record<string, string | null> = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const asked = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${asked && `?${asked}`}`;
}

export function go(address: string): void {
  location.hash = address;
}
