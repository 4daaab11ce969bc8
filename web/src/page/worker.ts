/** The worker in which the device lives. */

import * as Comlink from "comlink";
import { Tab } from "./tab";

Comlink.expose(new Tab());
