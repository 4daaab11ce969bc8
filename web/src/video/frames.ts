/** Take frames from a video file or a camera. The browser decodes them; they are few and small, and never sent. */

import type { Sampling } from "./bundle";
import type { Frames } from "./graphs";
import { colourHistogram, sceneIndices, sceneStarts, uniformTimes } from "./sampling";

const SHORT_SIDE = 256;
const LOOK_SECONDS = 0.1;
const [LOOK_WIDTH, LOOK_HEIGHT] = [48, 27];
const CAMERA_SECONDS = 4;
const WAIT_MS = 15_000;

export interface Clip {
  name: string;
  frames: Frames;
  /** Pictures of the frames, for the page. */
  pictures: ImageBitmap[];
}

export class VideoError extends Error {}

/**
 * Take `count` frames of a video file, spread as in the model's training.
 *
 * A frame that is shown at several of the moments is taken once, as in training, so there may be fewer than `count`.
 *
 * `uniform` uses segments of the frames, but a browser does not count frames. So segments of the time are used here,
 * which are the same at a constant frame rate.
 *
 * @throws VideoError if the browser cannot play the file.
 */
export async function framesOfFile(file: File, count: number, sampling: Sampling): Promise<Clip> {
  const url = URL.createObjectURL(file);
  const video = Object.assign(document.createElement("video"), {
    muted: true,
    preload: "auto",
    playsInline: true,
  });
  try {
    video.src = url;
    await happened(video, "loadeddata", unplayable(file.name));
    const duration = await durationOf(video);
    const times =
      sampling === "scene" ? await sceneTimes(video, duration, count) : uniformTimes(duration, count);
    const taker = new Taker(video);
    for (const time of times) {
      const shown = await seek(video, time);
      await taker.take(shown);
    }
    return taker.clip(file.name);
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  }
}

/**
 * Take `count` frames in four seconds from a camera that plays in `video`, beginning at its first picture.
 *
 * @throws VideoError if no picture comes.
 */
export async function framesOfCamera(video: HTMLVideoElement, count: number, name: string): Promise<Clip> {
  if (video.readyState < video.HAVE_CURRENT_DATA)
    await happened(
      video,
      "loadeddata",
      "no picture comes from the camera; see whether another program has it",
    );
  const taker = new Taker(video);
  const start = performance.now();
  for (const time of uniformTimes(CAMERA_SECONDS, count)) {
    await new Promise((resolve) => setTimeout(resolve, start + 1000 * time - performance.now()));
    await taker.take();
  }
  return taker.clip(name);
}

/** Collects frames of equal size; the browser turns them upright. */
class Taker {
  private readonly context: CanvasRenderingContext2D;
  private readonly taken: Uint8ClampedArray[] = [];
  private readonly pictures: ImageBitmap[] = [];
  private last?: number;

  constructor(private readonly video: HTMLVideoElement) {
    const { videoWidth, videoHeight } = video;
    if (!videoWidth || !videoHeight) throw new VideoError("this file shows no pictures");
    const scale = Math.min(1, SHORT_SIDE / Math.min(videoWidth, videoHeight));
    this.context = drawing(Math.round(videoWidth * scale), Math.round(videoHeight * scale));
  }

  /** Take the shown frame unless it was taken last. `shown` is the time in the file at which it begins, if known. */
  async take(shown?: number): Promise<void> {
    if (shown !== undefined && shown === this.last) return;
    this.last = shown;
    const { width, height } = this.context.canvas;
    this.context.drawImage(this.video, 0, 0, width, height);
    const taken = this.context.getImageData(0, 0, width, height).data;
    this.taken.push(taken);
    this.pictures.push(await createImageBitmap(this.context.canvas));
  }

  clip(name: string): Clip {
    const { width, height } = this.context.canvas;
    const frames = { rgb: withoutAlpha(this.taken), count: this.taken.length, height, width };
    return { name, frames, pictures: this.pictures };
  }
}

function drawing(width: number, height: number): CanvasRenderingContext2D {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.imageSmoothingQuality = "high";
  return context;
}

function withoutAlpha(frames: Uint8ClampedArray[]): Uint8Array {
  const pixels = frames[0].length / 4;
  const rgb = new Uint8Array(3 * pixels * frames.length);
  frames.forEach((rgba, frame) => {
    for (let pixel = 0; pixel < pixels; pixel++) {
      const to = 3 * (frame * pixels + pixel);
      rgb[to] = rgba[4 * pixel];
      rgb[to + 1] = rgba[4 * pixel + 1];
      rgb[to + 2] = rgba[4 * pixel + 2];
    }
  });
  return rgb;
}

/** Return the duration in seconds. Files that were recorded live show it only after a seek to their end. */
async function durationOf(video: HTMLVideoElement): Promise<number> {
  if (!Number.isFinite(video.duration)) await seek(video, Number.MAX_SAFE_INTEGER);
  if (!(Number.isFinite(video.duration) && video.duration > 0))
    throw new VideoError("this file has no length");
  return video.duration;
}

async function sceneTimes(video: HTMLVideoElement, duration: number, count: number): Promise<number[]> {
  const context = drawing(LOOK_WIDTH, LOOK_HEIGHT);
  const times = Array.from(
    { length: Math.max(1, Math.floor(duration / LOOK_SECONDS)) },
    (_, look) => look * LOOK_SECONDS,
  );
  const histograms: Float64Array[] = [];
  for (const time of times) {
    await seek(video, time);
    context.drawImage(video, 0, 0, LOOK_WIDTH, LOOK_HEIGHT);
    histograms.push(colourHistogram(context.getImageData(0, 0, LOOK_WIDTH, LOOK_HEIGHT).data));
  }
  return sceneIndices(sceneStarts(histograms), times.length, count).map((look) => times[look]);
}

/** Longest wait for a new frame. A seek within the shown frame shows no new frame. */
const SAME_FRAME_MS = 500;

/** Added to a moment, so that a moment on the border of two frames shows the later frame. */
const INTO_FRAME_S = 0.001;

/** Go to a time; return the time at which the frame shown there begins, if it is known. */
async function seek(video: HTMLVideoElement, time: number): Promise<number | undefined> {
  // `seeked` comes when the frame is decoded, sometimes before it can be drawn.
  const shown = new Promise<number>(
    (resolve) => void video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime)),
  );
  video.currentTime = time + INTO_FRAME_S;
  await happened(video, "seeked", unplayable("the video"));
  return Promise.race([shown, new Promise<undefined>((resolve) => setTimeout(resolve, SAME_FRAME_MS))]);
}

function unplayable(what: string): string {
  return `${what} cannot be played by this browser; try MP4 (H.264) or WebM`;
}

/** Wait for an event; after an error of the video, or after WAIT_MS, fail with the message `otherwise`. */
function happened(video: HTMLVideoElement, event: string, otherwise: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new VideoError(otherwise));
    video.addEventListener(event, () => resolve(), { once: true });
    video.addEventListener("error", fail, { once: true });
    setTimeout(fail, WAIT_MS);
  });
}
