import { useEffect, useState } from "preact/hooks";
import { go, route, to } from "../shell/route";
import { Chart } from "./chart";
import { bytes, decimal, milliseconds, moment, points, whole } from "./format";
import { watch } from "./live";
import { ContextMap } from "./map";
import { Facts, Heading, Table, Trouble, useFetched } from "./parts";
import type { FleetMap, Glance, Overview } from "./types";

const SPANS = { hour: "Last hour", day: "Last day", week: "Last week", month: "Last month" };
const MAP_EVERY_MS = 30_000;

/** Show a summary of the fleet, with live changes. */
export function FleetPage() {
  const span = route.value.query.get("span") ?? "day";
  const [glance, setGlance] = useState<Glance | null>(null);
  const [lost, setLost] = useState<string | null>(null);
  useEffect(() => {
    setGlance(null);
    const told = (next: Glance) => {
      setGlance(next);
      setLost(null);
    };
    return watch(span, told, setLost);
  }, [span]);
  return (
    <>
      <div class="bar">
        <Heading>Fleet</Heading>
        <wa-tag size="s" variant={lost ? "warning" : glance ? "success" : "neutral"}>
          {lost ? "not live" : glance ? "live" : "connecting"}
        </wa-tag>
        <label class="inline">
          Time{" "}
          <select value={span} onChange={(event) => go(to(["fleet"], { span: event.currentTarget.value }))}>
            {Object.entries(SPANS).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </div>
      {lost !== null && <Trouble>The numbers are not live: {lost}. The page asks again.</Trouble>}
      {glance && (
        <>
          <Counts overview={glance.overview} within={SPANS[span as keyof typeof SPANS].toLowerCase()} />
          <ByTime overview={glance.overview} />
          <Refusals overview={glance.overview} />
          <Answers glance={glance} />
        </>
      )}
      <Where />
    </>
  );
}

function Counts({ overview: { devices, total, gain }, within }: { overview: Overview; within: string }) {
  return (
    <section aria-labelledby="counts">
      <h2 id="counts">Devices</h2>
      <Facts
        facts={[
          ["known", <a href={to(["devices"])}>{whole(devices.known)}</a>],
          [`active, ${within}`, whole(devices.active)],
          ["given a package", <a href={to(["devices"], { kind: "adapted" })}>{whole(devices.adapted)}</a>],
          [`applied a package, ${within}`, whole(devices.applied)],
          [`refused a package, ${within}`, whole(devices.refused)],
          gain
            ? [`gain in points, ${whole(gain.count)} devices`, points(gain)]
            : ["gain in points", "none reported"],
          [`packages, ${within}`, whole(total.packages)],
          ["median latency", milliseconds(total.latency_p50_ms)],
        ]}
      />
      <p class="quiet">Devices report what they applied, refused and gained; not all devices report.</p>
    </section>
  );
}

function ByTime({ overview: { timeline } }: { overview: Overview }) {
  const times = timeline.map((bucket) => bucket.begins_at);
  const of = (name: "packages" | "bytes_up" | "bytes_down" | "latency_p50_ms" | "latency_p95_ms") =>
    timeline.map((bucket) => bucket[name]);
  const busy = timeline.filter((bucket) => bucket.packages > 0).reverse();
  return (
    <section aria-labelledby="by-time">
      <h2 id="by-time">By time</h2>
      <div class="charts">
        <Chart
          title="Packages issued"
          times={times}
          series={[{ name: "packages", values: of("packages") }]}
          shown={whole}
        />
        <Chart
          title="Latency"
          times={times}
          lines
          shown={(value) => milliseconds(value)}
          series={[
            { name: "median", values: of("latency_p50_ms") },
            { name: "95 %", values: of("latency_p95_ms") },
          ]}
        />
        <Chart
          title="Bytes"
          times={times}
          shown={bytes}
          series={[
            { name: "up", values: of("bytes_up") },
            { name: "down", values: of("bytes_down") },
          ]}
        />
      </div>
      <details>
        <summary>The numbers</summary>
        {busy.length ? (
          <Table
            label="Packages, latency and bytes by time"
            head={["From", "Packages", "Median latency", "95 %", "Up", "Down"]}
            rows={busy.map((bucket) => ({
              key: bucket.begins_at,
              cells: [
                moment(bucket.begins_at),
                whole(bucket.packages),
                milliseconds(bucket.latency_p50_ms),
                milliseconds(bucket.latency_p95_ms),
                bytes(bucket.bytes_up),
                bytes(bucket.bytes_down),
              ],
            }))}
          />
        ) : (
          <p>Nothing was issued in this time.</p>
        )}
      </details>
    </section>
  );
}

function Refusals({ overview: { reasons } }: { overview: Overview }) {
  return (
    <section aria-labelledby="reasons">
      <h2 id="reasons">Why packages were refused</h2>
      {reasons.length ? (
        <Table
          label="Reasons"
          head={["Reason, in the devices' words", "Devices"]}
          rows={reasons.map(({ reason, devices }) => ({
            key: reason,
            cells: [reason || "none given", whole(devices)],
          }))}
        />
      ) : (
        <p class="quiet">No device reports that it refused one in this time.</p>
      )}
    </section>
  );
}

const MEANING: Record<string, string> = {
  200: "a package",
  304: "nothing new",
  401: "not let in",
  409: "another base model",
  413: "too large",
  422: "malformed",
  429: "too many at once",
  499: "the device had gone",
  500: "the model failed",
  503: "the state failed",
};

function Answers({ glance: { answers, waiting } }: { glance: Glance }) {
  const given = Object.entries(answers).filter(([, count]) => count > 0);
  const all = given.reduce((total, [, count]) => total + count, 0);
  return (
    <section aria-labelledby="answered">
      <h2 id="answered">Answers since this process began</h2>
      {given.length ? (
        <Table
          label="Answers by status"
          head={["Answer", "Requests", "Share"]}
          rows={given.map(([status, count]) => ({
            key: status,
            cells: [`${status} ${MEANING[status] ?? ""}`, whole(count), `${decimal((100 * count) / all)} %`],
          }))}
        />
      ) : (
        <p class="quiet">None yet.</p>
      )}
      {waiting > 0 && <p>{whole(waiting)} requests wait now.</p>}
    </section>
  );
}

function Where() {
  const [model, setModel] = useState<string | null>(null);
  const { data, trouble, again } = useFetched<FleetMap>(model ? `/map?model=${model}` : "/map");
  useEffect(() => {
    const timer = setInterval(again, MAP_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <section aria-labelledby="where">
      <h2 id="where">Where the devices are</h2>
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      {data && data.models.length > 1 && (
        <label class="inline">
          Base model{" "}
          <select value={data.model ?? ""} onChange={(event) => setModel(event.currentTarget.value)}>
            {data.models.map((one) => (
              <option key={one.model} value={one.model}>
                {one.model.slice(0, 12)}, {whole(one.devices)} devices
              </option>
            ))}
          </select>
        </label>
      )}
      {data && <ContextMap map={data} />}
    </section>
  );
}
