import "@awesome.me/webawesome/dist/styles/themes/default.css";
import "@awesome.me/webawesome/dist/styles/native.css";
import "@awesome.me/webawesome/dist/styles/utilities/visually-hidden.css";
import "@awesome.me/webawesome/dist/components/callout/callout.js";
import "@awesome.me/webawesome/dist/components/tag/tag.js";
import "./page/page.css";
import { render } from "preact";
import { Shell } from "./shell/shell";

const dark = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => document.documentElement.classList.toggle("wa-dark", dark.matches);
dark.addEventListener("change", followTheme);
followTheme();

render(<Shell />, document.getElementById("page")!);
