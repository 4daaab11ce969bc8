/** State of the page, and the actions of its user. */

import { signal } from "@preact/signals";
import * as Comlink from "comlink";
import type { Exchange } from "../device/cloud";
import type { Status } from "../video/device";
import type { Backend } from "../video/engine";
import { messageOf } from "../device/errors";
import type { Adapted, Comparison, Opened, OpenedModule, Query, Tab } from "./tab";
import { type Clip, framesOfCamera, framesOfFile } from "../video/frames";

export interface ShownClip extends Clip {
  number: number;
  trunkMs: number;
}

export interface Asked {
  query: Query;
  comparison: Comparison;
}

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
export const tab = Comlink.wrap<Tab>(worker);

export const opened = signal<Opened | null>(null);
/** The model, if it takes arrays. The page can show such a model but cannot ask it questions. */
export const module = signal<OpenedModule | null>(null);
export const loaded = signal<{ done: number; total: number }>({ done: 0, total: 0 });
export const status = signal<Status | null>(null);
export const clips = signal<ShownClip[]>([]);
export const asked = signal<Asked[]>([]);
export const adapted = signal<Adapted | null>(null);
export const exchanges = signal<Exchange[]>([]);
/** The action under way; null if there is none. */
export const busy = signal<string | null>("Loading the model");
/** Result of the last action, which screen readers read too. */
export const note = signal("");
export const trouble = signal<string | null>(null);
/** Whether the service wants a token before it adapts this device. */
export const wantsToken = signal(false);
export const camera = signal<MediaStream | null>(null);

/** Run an action, show its name while it runs, then its result or its error. */
async function doing(what: string, work: () => Promise<string>): Promise<void> {
  busy.value = what;
  trouble.value = null;
  try {
    note.value = await work();
  } catch (error) {
    trouble.value = messageOf(error);
    if (error instanceof Error && error.name === "NotEnrolled") wantsToken.value = true;
  } finally {
    busy.value = null;
    await refresh();
  }
}

async function refresh(): Promise<void> {
  if (!opened.value) return;
  [status.value, exchanges.value] = await Promise.all([tab.status(), tab.log()]);
}

/** Load the model. `?model=SHA256` and `?backend=wasm|webgpu` in the page's address choose model and backend. */
export function start(): Promise<void> {
  return doing("Loading the model", async () => {
    const missing = !isSecureContext
      ? "open this page over HTTPS or as localhost: only there do browsers check signatures and open cameras"
      : !("locks" in navigator)
        ? "this browser is too old for this page"
        : null;
    if (missing) throw new Error(missing);
    const given = new URLSearchParams(location.search);
    const options = {
      service: location.origin,
      model: given.get("model"),
      backend: given.get("backend") as Backend | null,
    };
    const begin = performance.now();
    const told = Comlink.proxy((done: number, total: number) => void (loaded.value = { done, total }));
    const model = await tab.open(options, told);
    if (model.kind === "module") module.value = model;
    else opened.value = model;
    return `The model is ready, after ${seconds(performance.now() - begin)}.`;
  });
}

/** Open video files: take their frames and run the trunk over them. */
export function openFiles(files: readonly File[]): Promise<void> {
  return doing("Looking at the video", async () => {
    for (const file of files)
      await add(await framesOfFile(file, opened.value!.frames, opened.value!.sampling));
    return said(clips.value.at(-1)!);
  });
}

export function openCamera(): Promise<void> {
  return doing("Opening the camera", async () => {
    camera.value = await navigator.mediaDevices.getUserMedia({ video: true });
    return "The camera is on. Its pictures stay in this tab.";
  });
}

export function closeCamera(): void {
  camera.value?.getTracks().forEach((track) => track.stop());
  camera.value = null;
}

/** Take a clip of four seconds from the camera. */
export function recordClip(video: HTMLVideoElement): Promise<void> {
  return doing("Watching for four seconds", async () => {
    await add(await framesOfCamera(video, opened.value!.frames, `camera ${clips.value.length + 1}`));
    return said(clips.value.at(-1)!);
  });
}

async function add(clip: Clip): Promise<void> {
  const { clip: number, milliseconds } = await tab.addClip(clip.frames);
  clips.value = [...clips.value, { ...clip, number, trunkMs: milliseconds }];
}

function said({ name, frames, trunkMs }: ShownClip): string {
  return `${name}: ${frames.count} frames seen in ${Math.round(trunkMs)} ms.`;
}

/** Ask about the clip that was opened last, or search all clips. */
export function ask(text: string, options: string[]): Promise<void> {
  return doing("Answering", async () => {
    const clip = opened.value!.task === "retrieval" ? null : (clips.value.at(-1)?.number ?? null);
    const query = { clip, text, options };
    const comparison = await tab.compare(query);
    asked.value = [{ query, comparison }, ...asked.value];
    const { base, own } = comparison;
    return own ? `Base: ${shown(base)}. Adapted: ${shown(own)}.` : `Base: ${shown(base)}.`;
  });
}

function shown(ranked: Comparison["base"]): string {
  return nameOf(ranked[0].text);
}

/** Return the text of an answer; for retrieval, whose answers are numbers of clips, the clip's name. */
export function nameOf(answer: string): string {
  return opened.value!.task === "retrieval" ? clips.value[Number(answer)].name : answer;
}

/** Request parameters from the cloud, take them up, and answer every question again. */
export function adapt(): Promise<void> {
  return doing("Asking the cloud", async () => {
    adapted.value = await tab.adapt();
    wantsToken.value = false;
    await again();
    const { sequence, bytesUp, bytesDown, milliseconds } = adapted.value;
    return `Package ${sequence} runs: ${bytesUp} bytes up, ${bytesDown} down, ${Math.round(milliseconds)} ms.`;
  });
}

export function enrol(token: string): Promise<void> {
  return doing("Enrolling", async () => {
    await tab.enrol(token);
    opened.value = { ...opened.value!, enrolled: true };
    wantsToken.value = false;
    return "This tab is enrolled; its requests are signed from now on.";
  });
}

export function rollBack(to: number): Promise<void> {
  return doing("Going back", async () => {
    await tab.rollBack(to);
    await again();
    return to ? `Package ${to} runs again.` : "The base model runs again.";
  });
}

async function again(): Promise<void> {
  const all: Asked[] = [];
  for (const { query } of asked.value) all.push({ query, comparison: await tab.compare(query) });
  asked.value = all;
}

export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
