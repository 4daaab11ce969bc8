/** The device in the tab. Importing this module starts it. */

import "@awesome.me/webawesome/dist/components/progress-bar/progress-bar.js";
import { framesOfFile } from "../video/frames";
import { start, tab } from "./state";

export { App } from "./app";

/** The device for the browser's console, and for tests. */
Object.assign(globalThis, { paramcast: { tab, framesOfFile, protocol: () => import("../protocol") } });

void start();
