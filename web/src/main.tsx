import "@awesome.me/webawesome/dist/styles/themes/default.css";
import "@awesome.me/webawesome/dist/styles/native.css";
import "@awesome.me/webawesome/dist/styles/utilities/visually-hidden.css";
import "@awesome.me/webawesome/dist/components/callout/callout.js";
import "@awesome.me/webawesome/dist/components/progress-bar/progress-bar.js";
import "@awesome.me/webawesome/dist/components/tag/tag.js";
import "./page/page.css";
import { render } from "preact";
import { App } from "./page/app";
import { start, tab } from "./page/state";
import { framesOfFile } from "./video/frames";

const dark = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => document.documentElement.classList.toggle("wa-dark", dark.matches);
dark.addEventListener("change", followTheme);
followTheme();

/** The device for the browser's console, and for tests. */
Object.assign(globalThis, { paramcast: { tab, framesOfFile, wire: () => import("./wire/wire") } });

render(<App />, document.getElementById("page")!);
void start();
