/** Choose the moments of a clip as training does; see `paramcast.video.data.sampling`. */

/** Share of the pixels whose color must change for a scene to end. */
const SCENE_CUT = 0.4;
const BINS = 64;

/** Return the centers of `count` equal segments of `length` items. */
export function uniformIndices(length: number, count: number): number[] {
  const taken = Math.min(length, count);
  return Array.from({ length: taken }, (_, place) => Math.floor(((2 * place + 1) * length) / (2 * taken)));
}

/** Return the centers of `count` equal spans of a clip's time, in seconds. */
export function uniformTimes(duration: number, count: number): number[] {
  return Array.from({ length: count }, (_, place) => ((place + 0.5) / count) * duration);
}

/** Compute the histogram of a picture's colors: 64 bins, 4 per channel, with sum 1. `rgba` has 4 bytes per pixel. */
export function colourHistogram(rgba: Uint8ClampedArray): Float64Array {
  const bins = new Float64Array(BINS);
  const pixels = rgba.length / 4;
  for (let at = 0; at < rgba.length; at += 4) {
    bins[(rgba[at] >> 6) * 16 + (rgba[at + 1] >> 6) * 4 + (rgba[at + 2] >> 6)] += 1 / pixels;
  }
  return bins;
}

/** Return the places where scenes begin, ascending, the first one 0. */
export function sceneStarts(histograms: Float64Array[]): number[] {
  const starts = [0];
  for (let place = 1; place < histograms.length; place++) {
    const before = histograms[place - 1];
    const changed = histograms[place].reduce((sum, share, bin) => sum + Math.abs(share - before[bin]), 0) / 2;
    if (changed > SCENE_CUT) starts.push(place);
  }
  return starts;
}

/** Spread `count` of `length` pictures over the scenes: at least one for each scene, the others by length. */
export function sceneIndices(starts: number[], length: number, count: number): number[] {
  const lengths = starts.map((start, scene) => (starts[scene + 1] ?? length) - start);
  const shares = lengths.map(() => 0);
  for (let taken = 0; taken < Math.min(length, count); taken++) {
    // Scenes without a picture come first, the longest first; then the scene with the longest stretch per picture.
    const stretch = lengths.map((size, scene) => {
      if (shares[scene] >= size) return -1;
      return shares[scene] === 0 ? size + length : size / shares[scene];
    });
    shares[stretch.indexOf(Math.max(...stretch))] += 1;
  }
  return starts.flatMap((start, scene) =>
    uniformIndices(lengths[scene], shares[scene]).map((place) => start + place),
  );
}
