/** Route of the page: the part of the address after `#`. */

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
    return part; // an address typed by hand: the page then says that it does not exist
  }
}

/** Make the address of a page; empty values are left out. */
export function to(parts: string[], query: Record<string, string | null> = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const asked = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${asked && `?${asked}`}`;
}

export function go(address: string): void {
  location.hash = address;
}
