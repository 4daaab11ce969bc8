/** Worker that runs the device. */

import * as Comlink from "comlink";
import { Tab } from "./tab";

Comlink.expose(new Tab());
