/** Table in the browser's IndexedDB of the page's origin. */

import { createStore, get, set } from "idb-keyval";
import type { Table } from "./store";

/** Open a table. @param name name of the database; devices with different names share nothing. */
export function browserTable(name = "paramcast"): Table {
  const table = createStore(name, "device");
  return { get: (key) => get(key, table), set: (key, value) => set(key, value, table) };
}
