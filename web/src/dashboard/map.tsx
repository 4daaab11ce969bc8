import { decimal, whole } from "./format";
import type { FleetMap } from "./types";

export interface Stop {
  sequence: number;
  x: number;
  y: number;
}

/** Show a map of the devices' newest contexts, and optionally the track of one device. */
export function ContextMap({ map, track = [] }: { map: FleetMap; track?: Stop[] }) {
  if (!map.occupied.length) return <p class="quiet">No device has a place on the map yet.</p>;
  const { cells, left, bottom, size, occupied } = map;
  const most = Math.max(...occupied.map(({ devices }) => devices));
  const devices = occupied.reduce((total, cell) => total + cell.devices, 0);
  const stops = track.map((stop) => ({
    ...stop,
    column: (stop.x - left) / size,
    row: cells - (stop.y - bottom) / size,
  }));
  const newest = stops.at(-1);
  const about =
    `Map of ${whole(devices)} devices in ${whole(occupied.length)} squares; at most ${whole(most)} in one.` +
    (newest ? ` The device's newest context is at ${place(newest)}, after ${stops.length} packages.` : "");
  const end = left + size * cells;
  return (
    <figure class="map">
      <svg viewBox={`0 0 ${cells} ${cells}`} role="img" aria-label={about}>
        {occupied.map(({ column, row, devices: here }) => (
          <rect
            key={`${column} ${row}`}
            class="cell"
            x={column}
            y={cells - 1 - row}
            width={1}
            height={1}
            fill-opacity={0.3 + 0.7 * (Math.log(1 + here) / Math.log(1 + most))}
          />
        ))}
        <polyline class="track" points={stops.map(({ column, row }) => `${column},${row}`).join(" ")} />
        {stops.map(({ sequence, column, row }) => (
          <circle
            key={sequence}
            class={sequence === newest!.sequence ? "stop newest" : "stop"}
            cx={column}
            cy={row}
            r={sequence === newest!.sequence ? 0.9 : 0.45}
          />
        ))}
      </svg>
      <figcaption>
        Horizontal: the examples, {deviations(left)} to {deviations(end)}. Vertical: the queries (for a model
        without queries, a second axis of the examples), {deviations(bottom)} to{" "}
        {deviations(bottom + size * cells)}. Each value is the mean over a request, along an axis on which the
        training data differ most, in standard deviations. The darker a square, the more devices: at most{" "}
        {whole(most)}.{map.outside > 0 && ` ${whole(map.outside)} lie outside.`}
        {newest && ` The ringed dot is package ${newest.sequence}.`}
      </figcaption>
    </figure>
  );
}

const deviations = (hundredths: number): string => decimal(hundredths / 100).replace("-", "−");

export const place = ({ x, y }: { x: number; y: number }): string =>
  `${decimal(x / 100, 2)}, ${decimal(y / 100, 2)}`.replaceAll("-", "−");
