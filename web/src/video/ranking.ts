/** Rank answers by their scores. */

/** Answer with its score: a probability, or the cosine of a search. */
export interface Ranked {
  text: string;
  score: number;
}

const SHOWN = 5;

/** Return the best five, the best one first. */
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
