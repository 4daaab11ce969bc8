import { useEffect, useRef } from "preact/hooks";
import {
  busy,
  camera,
  clips,
  closeCamera,
  openCamera,
  opened,
  openFiles,
  recordClip,
  type ShownClip,
} from "./state";

/** Show the controls that open videos, and the frames taken from the last video. */
export function Clips() {
  const last = clips.value.at(-1);
  return (
    <section class="clips" aria-labelledby="clips">
      <h2 id="clips">1. Show it something</h2>
      <label>
        Video files
        <input
          type="file"
          accept="video/*"
          multiple
          disabled={busy.value !== null}
          onChange={(event) => void openFiles([...(event.currentTarget.files ?? [])])}
        />
      </label>
      <Camera />
      {last && <FrameStrip clip={last} />}
      {clips.value.length > 1 && (
        <p class="quiet">{clips.value.length} clips so far; questions are about the last.</p>
      )}
    </section>
  );
}

function Camera() {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current) video.current.srcObject = camera.value;
  }, [camera.value]);
  if (!camera.value) {
    return (
      <button class="wa-outlined" disabled={busy.value !== null} onClick={() => void openCamera()}>
        Use the camera
      </button>
    );
  }
  return (
    <div class="camera">
      <video ref={video} autoplay muted playsinline aria-label="What the camera sees" />
      <p class="buttons">
        <button disabled={busy.value !== null} onClick={() => void recordClip(video.current!)}>
          Take a clip
        </button>
        <button class="wa-outlined" onClick={closeCamera}>
          Camera off
        </button>
      </p>
    </div>
  );
}

function FrameStrip({ clip }: { clip: ShownClip }) {
  const anchor = Math.floor(clip.pictures.length / 2);
  return (
    <figure>
      <div class="frames">
        {clip.pictures.map((picture, place) => (
          <Picture
            key={`${clip.number} ${place}`}
            picture={picture}
            isAnchor={place === anchor}
            label={`frame ${place + 1} of ${clip.pictures.length}${place === anchor ? ", the anchor" : ""}`}
          />
        ))}
      </div>
      <figcaption>
        {clip.name}: {clip.frames.count} frames ({opened.value!.sampling}), {clip.frames.width} ×{" "}
        {clip.frames.height}, seen in {Math.round(clip.trunkMs)} ms. Only the feature of the outlined frame,
        the anchor, is sent.
      </figcaption>
    </figure>
  );
}

function Picture({ picture, isAnchor, label }: { picture: ImageBitmap; isAnchor: boolean; label: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    canvas.current?.getContext("2d")?.drawImage(picture, 0, 0);
  }, [picture]);
  return (
    <canvas
      ref={canvas}
      class={isAnchor ? "anchor" : undefined}
      width={picture.width}
      height={picture.height}
      role="img"
      aria-label={label}
    />
  );
}
