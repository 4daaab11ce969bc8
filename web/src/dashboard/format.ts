/** Format numbers and times for display. */

import type { Gain } from "./types";

export const whole = (value: number): string => Math.round(value).toLocaleString("en");

export const decimal = (value: number, digits = 1): string =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function signed(value: number): string {
  return `${value < 0 ? "−" : "+"}${decimal(Math.abs(value))}`;
}

const SIZES = ["B", "kB", "MB", "GB", "TB"];

export function bytes(value: number): string {
  const power = value < 1000 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log10(value) / 3));
  return `${power ? decimal(value / 1000 ** power) : whole(value)} ${SIZES[power]}`;
}

export function milliseconds(value: number | null): string {
  return value === null ? "–" : `${value < 10 ? decimal(value) : whole(value)} ms`;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export const clock = (at: number): string => TIME.format(at);
export const moment = (at: number): string => `${DAY.format(at)}, ${TIME.format(at)}`;

export function points(gain: Gain | null): string {
  if (!gain) return "–";
  const interval =
    gain.low === null || gain.high === null ? "" : ` [${signed(gain.low)}, ${signed(gain.high)}]`;
  return `${signed(gain.mean)}${interval}`;
}

/** Round up to the end of an axis: 1, 2, 5 or 10 times a power of ten, at least `value`. */
export function rounded(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value)!;
}
