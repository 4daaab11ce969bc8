/** From scores to a short list. */

/** `score`: a probability, or of a search the cosine. */
export interface Ranked {
  text: string;
  score: number;
}

const SHOWN = 5;

/** The best five, the best one first. */
export function most(scores: ArrayLike<number>, name: (place: number) => string): Ranked[] {
  return Array.from(scores, (score, place) => ({ text: name(place), score }))
    .sort((a, b) => b.score - a.score)
    .slice(0, SHOWN);
}

export function softmax(logits: Float32Array): Float64Array {
  const highest = logits.reduce((best, logit) => Math.max(best, logit), -Infinity);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = weights.reduce((whole, weight) => whole + weight, 0);
  return weights.map((weight) => weight / sum);
}
