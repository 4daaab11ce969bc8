import { call, may } from "./api";
import { Access, reported } from "./devices";
import { bytes, milliseconds, moment, points, whole } from "./format";
import { ContextMap, place, type Stop } from "./map";
import { Confirmed, Facts, Heading, Table, Trouble, useFetched } from "./parts";
import type { Device, FleetMap, Issued, Listed } from "./types";

/** Show a device: its contexts on the map, its updates, and its reports on them. */
export function DevicePage({ id }: { id: string }) {
  const path = `/devices/${encodeURIComponent(id)}`;
  const { data, trouble, again } = useFetched<Device>(path);
  const access = data && accessOf(data);
  return (
    <>
      <div class="bar">
        <Heading>
          Device <span class="name">{id}</span>
        </Heading>
        {access && <Access access={access} />}
      </div>
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      {data && (
        <>
          <section aria-labelledby="about">
            <h2 id="about">About the device</h2>
            <Facts
              facts={[
                ["first seen", moment(data.first_seen_at)],
                ["last seen", moment(data.last_seen_at)],
                ["packages up to", data.sequence ? whole(data.sequence) : "none"],
                ["base model", data.model ? <code>{data.model.slice(0, 12)}</code> : "not known"],
                data.gain
                  ? [`gain in points, reports: ${data.gain.count}`, points(data.gain)]
                  : ["gain in points", "none reported"],
              ]}
            />
            <p>
              Roll back or recall a model to call its packages back; a device can also go back by itself.{" "}
              {access === "open" && "It never enrolled, so there is no key to revoke."}
              {access === "revoked" && "Its keys are revoked: it gets nothing until it enrols again."}
            </p>
            {access === "enrolled" && may("operator") && (
              <Confirmed
                label="Revoke"
                question={`Revoke all keys of ${id}? From its next request on it gets nothing until it enrols again with a new token. It continues to run its present parameters.`}
                deed={async () => {
                  await call(`${path}/revoke`, {});
                  again();
                }}
              />
            )}
          </section>
          <Track device={data} />
          <Packages device={data} />
        </>
      )}
    </>
  );
}

function accessOf({ keys }: Device): Listed["access"] {
  if (keys === null) return "open";
  return keys.length ? "enrolled" : "revoked";
}

function Track({ device }: { device: Device }) {
  const { data, trouble } = useFetched<FleetMap>(device.model && `/map?model=${device.model}`);
  const track = device.packages.filter((one) => one.model === device.model).filter(isPlaced);
  return (
    <section aria-labelledby="track">
      <h2 id="track">Its context in the fleet</h2>
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      {!track.length && <p class="quiet">None of its packages on record has a place on the map.</p>}
      {data && track.length > 0 && <ContextMap map={data} track={track.toReversed()} />}
    </section>
  );
}

/** Describe the support set. Only video models have queries; for other models, count examples. */
function madeOf({ clips, queries }: Issued): string {
  return queries ? `${clips} clips, ${queries} queries` : `${clips} examples`;
}

function isPlaced(one: Issued): one is Issued & Stop {
  return one.x !== null && one.y !== null;
}

function Packages({ device: { packages, reports } }: { device: Device }) {
  return (
    <section aria-labelledby="packages">
      <h2 id="packages">Packages issued</h2>
      {packages.length === 0 && <p class="quiet">No package is on record.</p>}
      {packages.length > 0 && (
        <>
          <Table
            label="Table of packages"
            head={[
              "Package",
              "Issued",
              "Context",
              "Made of",
              "Form",
              "Up",
              "Down",
              "Latency",
              "Version",
              "Reported",
            ]}
            rows={packages.map((one) => ({
              key: one.sequence,
              cells: [
                one.sequence,
                moment(one.issued_at),
                <>
                  <code>{one.context.slice(0, 6)}</code>
                  {isPlaced(one) && ` at ${place(one)}`}
                </>,
                madeOf(one),
                one.form,
                one.request_bytes === null ? "–" : bytes(one.request_bytes),
                bytes(one.bytes),
                milliseconds(one.latency_us / 1000),
                one.version ?? "–",
                reported(
                  reports.find((report) => report.sequence === one.sequence) ?? {
                    applied: null,
                    gain: null,
                    reason: null,
                  },
                ),
              ],
            }))}
          />
          <p class="quiet">
            The newest {packages.length}. Equal digits of the context mean equal requests; they do not show
            the content.
          </p>
        </>
      )}
    </section>
  );
}
