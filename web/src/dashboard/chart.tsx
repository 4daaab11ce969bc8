/** Charts of time series, as SVG that scales with the page; a table beside each chart has the numbers. */

import { clock, moment, rounded } from "./format";

export interface Series {
  name: string;
  values: (number | null)[];
}

const WIDTH = 600;
const HEIGHT = 120;

export function Chart({
  title,
  times,
  series,
  lines = false,
  shown,
}: {
  title: string;
  /** Unix milliseconds at which each value's interval begins. */
  times: number[];
  series: Series[];
  /** Draw lines, each from zero; otherwise stacked bars. */
  lines?: boolean;
  shown: (value: number) => string;
}) {
  const columns = times.map((_, place) => series.map(({ values }) => values[place] ?? 0));
  const heights = columns.map((values) => (lines ? Math.max(...values) : sum(values)));
  const highest = Math.max(...heights);
  const top = rounded(highest);
  const step = WIDTH / times.length;
  const y = (value: number) => HEIGHT - (HEIGHT * value) / top;
  const about = highest
    ? `${title}, by time: at most ${shown(highest)}, in what began ${moment(times[heights.indexOf(highest)])}`
    : `${title}: nothing yet`;
  return (
    <figure class="chart">
      <figcaption>
        <strong>{title}</strong>
        {series.length > 1 &&
          series.map(({ name }, place) => (
            <span key={name} class={`key series-${place}`}>
              {name}
            </span>
          ))}
      </figcaption>
      <div class="plot">
        <span class="top-label">{shown(top)}</span>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={about}>
          <path class="grid" d={`M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}`} />
          {lines
            ? series.map(({ name, values }, place) => (
                <path key={name} class={`line series-${place}`} d={lineOf(values, step, y)} />
              ))
            : columns.map((values, place) =>
                values.map((value, number) => (
                  <rect
                    key={`${place} ${number}`}
                    class={`bar series-${number}`}
                    x={step * (place + 0.1)}
                    width={0.8 * step}
                    y={y(sum(values.slice(0, number + 1)))}
                    height={(HEIGHT * value) / top}
                  />
                )),
              )}
        </svg>
      </div>
      <p class="ends">
        <span>{moment(times[0])}</span>
        <span>{clock(times.at(-1)!)}</span>
      </p>
    </figure>
  );
}

/** Return the SVG path of a line with gaps at missing values; a single value becomes a short dash. */
function lineOf(values: (number | null)[], step: number, y: (value: number) => number): string {
  return values
    .map((value, place) => {
      if (value === null) return "";
      const isFirst = (values[place - 1] ?? null) === null;
      const isAlone = isFirst && (values[place + 1] ?? null) === null;
      const at = step * (place + 0.5);
      return isAlone
        ? `M${at - step / 4} ${y(value)}H${at + step / 4}`
        : `${isFirst ? "M" : "L"}${at} ${y(value)}`;
    })
    .join("");
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
