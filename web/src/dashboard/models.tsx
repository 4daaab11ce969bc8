import { go, route, to } from "../shell/route";
import { call, may } from "./api";
import { bytes, milliseconds, moment, points, whole } from "./format";
import { Confirmed, Heading, Table, Trouble, useFetched } from "./parts";
import type { Comparison, Recall, Version } from "./types";

/** Show the versions of models, their results and recalls, and the button for a rollback. */
export function ModelsPage() {
  const { data, trouble, again } = useFetched<Version[]>("/versions");
  const recalls = useFetched<Recall[]>("/recalls");
  const published = data?.filter((one) => one.version !== null) ?? [];
  return (
    <>
      <Heading>Models</Heading>
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      {data && (
        <>
          <section aria-labelledby="versions">
            <h2 id="versions">Versions</h2>
            {data.length ? (
              <Versions versions={data} />
            ) : (
              <p class="quiet">
                None yet: <code>paramcast model publish FOLDER</code> puts one in service.
              </p>
            )}
            <RollBack
              versions={published}
              again={() => {
                again();
                recalls.again();
              }}
            />
          </section>
          {recalls.trouble !== null && <Trouble>{recalls.trouble}</Trouble>}
          {recalls.data && <CalledBack recalls={recalls.data} />}
          {published.length > 1 && <Compared versions={published} />}
        </>
      )}
    </>
  );
}

const STANDING = {
  serving: "success",
  replaced: "neutral",
  withdrawn: "danger",
  folder: "neutral",
} as const;

function Standing({ version: { standing, share } }: { version: Version }) {
  const text = standing === "serving" ? `serves ${share} %` : standing;
  return (
    <wa-tag size="s" variant={STANDING[standing]}>
      {text}
    </wa-tag>
  );
}

function Versions({ versions }: { versions: Version[] }) {
  return (
    <>
      <Table
        label="Table of versions"
        head={[
          "Version",
          "Standing",
          "Base model",
          "Task",
          "Form",
          "Published",
          "Packages",
          "Devices",
          "Down, mean",
          "Latency, mean",
          "Gain in points",
        ]}
        rows={versions.map((one) => ({
          key: one.version ?? one.model,
          cells: [
            one.version ?? "–",
            <Standing version={one} />,
            <code>{one.model.slice(0, 12)}</code>,
            one.task ?? "–",
            one.form,
            one.published_at === null ? "from a folder" : moment(one.published_at),
            whole(one.packages),
            whole(one.devices),
            one.bytes_down === null ? "–" : bytes(one.bytes_down),
            milliseconds(one.latency_ms),
            points(one.gain),
          ],
        }))}
      />
      <p class="quiet">
        The numbers cover the packages and reports on record. Gains are means over devices, with 95 %
        intervals.
      </p>
    </>
  );
}

/** Offer a rollback of each base model's newest version in service, if an earlier version can replace it. */
function RollBack({ versions, again }: { versions: Version[]; again: () => void }) {
  const newest = versions.filter(
    (one) =>
      one.standing === "serving" &&
      !versions.some(
        (other) => other.model === one.model && other.standing === "serving" && other.version! > one.version!,
      ) &&
      versions.some(
        (other) =>
          other.model === one.model &&
          other.version! < one.version! &&
          other.share === 100 &&
          other.standing !== "withdrawn",
      ),
  );
  if (!newest.length) return null;
  if (!may("admin")) return <p class="quiet">Only admins can roll back.</p>;
  return (
    <p class="buttons">
      {newest.map(({ version, model }) => (
        <Confirmed
          key={model}
          label={`Roll back version ${version}`}
          question={`Take version ${version} of base model ${model.slice(0, 12)} out of service, and every other version of the same files? The version before serves its devices again, within two seconds. Devices leave its packages when they hear of it, which takes an hour at most if they are online.`}
          deed={async () => {
            await call("/models/rollback", { model, version });
            again();
          }}
        />
      ))}
    </p>
  );
}

/** Show the updates that the signed notice of each base model recalls. */
function CalledBack({ recalls }: { recalls: Recall[] }) {
  const told = recalls.filter((one) => one.to_base || one.since > 0 || one.withdrawn.length > 0);
  return (
    <section aria-labelledby="recalls">
      <h2 id="recalls">Called back</h2>
      {told.length ? (
        <Table
          label="What is called back"
          head={["Base model", "Devices run", "Versions called back", "All packages made before"]}
          rows={told.map((one) => ({
            key: one.model,
            cells: [
              <code>{one.model.slice(0, 12)}</code>,
              one.to_base ? "the base model alone" : "updates that are not called back",
              one.withdrawn.join(", ") || "–",
              one.since ? moment(one.since) : "–",
            ],
          }))}
        />
      ) : (
        <p class="quiet">
          Nothing: <code>paramcast model recall</code> calls packages back, and so does a roll back.
        </p>
      )}
    </section>
  );
}

function Compared({ versions }: { versions: Version[] }) {
  const { query } = route.value;
  const second = query.get("second") ?? String(versions[0].version);
  const first = query.get("first") ?? String(versions[1].version);
  const { data, trouble } = useFetched<Comparison>(`/versions/compare?first=${first}&second=${second}`);
  const choose = (which: "first" | "second") => (
    <label>
      {which === "first" ? "Version" : "Beside version"}
      <select
        value={which === "first" ? first : second}
        onChange={(event) => go(to(["models"], { first, second, [which]: event.currentTarget.value }))}
      >
        {versions.map(({ version, form, model }) => (
          <option key={version} value={String(version)}>
            {version}: {form}, {model.slice(0, 8)}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <section aria-labelledby="compare">
      <h2 id="compare">Compare two</h2>
      <div class="pair">
        {choose("first")}
        {choose("second")}
      </div>
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      {data && <Beside comparison={data} />}
    </section>
  );
}

function Beside({ comparison: { first, second, difference } }: { comparison: Comparison }) {
  const measures: [string, (one: Version) => string][] = [
    ["Share of devices", (one) => `${one.share} %`],
    ["Packages", (one) => whole(one.packages)],
    ["Devices", (one) => whole(one.devices)],
    ["Bytes up, mean", (one) => (one.bytes_up === null ? "–" : bytes(one.bytes_up))],
    ["Bytes down, mean", (one) => (one.bytes_down === null ? "–" : bytes(one.bytes_down))],
    ["Latency, mean", (one) => milliseconds(one.latency_ms)],
    ["Applied a package", (one) => whole(one.applied)],
    ["Refused a package", (one) => whole(one.refused)],
    ["Gain in points", (one) => points(one.gain)],
    ["Devices that report gains", (one) => whole(one.gain?.count ?? 0)],
  ];
  return (
    <>
      <Table
        label="Two versions"
        head={["Measure", `Version ${first.version}`, `Version ${second.version}`]}
        rows={measures.map(([name, of]) => ({ key: name, cells: [name, of(first), of(second)] }))}
      />
      <p>
        {difference
          ? `Version ${second.version} gains ${points(difference)} points over version ${first.version}.`
          : "Too few devices report gains to tell them apart."}{" "}
        The devices of a canary share are picked by a hash, so that they are like the others; versions that
        served at different times may differ by the time.
      </p>
    </>
  );
}
