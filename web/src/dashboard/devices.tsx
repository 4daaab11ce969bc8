import { useEffect, useState } from "preact/hooks";
import { go, route, to } from "../shell/route";
import { moment, signed, whole } from "./format";
import { Heading, Table, Trouble, useFetched } from "./parts";
import type { Devices, Listed } from "./types";

const KINDS = {
  all: "All",
  adapted: "Given a package",
  waiting: "Not given a package yet",
  refused: "Refused the last package",
  revoked: "Revoked",
};

/** Show the registered devices, one page at a time. */
export function DevicesPage() {
  const { query } = route.value;
  const [search, kind, after] = [query.get("search") ?? "", query.get("kind") ?? "all", query.get("after")];
  const [text, setText] = useState(search);
  useEffect(() => setText(search), [search]);
  const asked = new URLSearchParams({ search, kind, ...(after !== null && { after }) });
  const { data, trouble } = useFetched<Devices>(`/devices?${asked}`);
  return (
    <>
      <Heading>Devices</Heading>
      <form
        class="search"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          go(to(["devices"], { search: text.trim(), kind }));
        }}
      >
        <label>
          Part of a name
          <input
            type="text"
            value={text}
            maxLength={128}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <label>
          Which
          <select
            value={kind}
            onChange={(event) => go(to(["devices"], { search, kind: event.currentTarget.value }))}
          >
            {Object.entries(KINDS).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="submit">Search</button>
      </form>
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      <section aria-label="Devices found">
        <p role="status">
          {data &&
            `${whole(data.total)} ${data.total === 1 ? "device" : "devices"}${after ? `, those after ${after}` : ""}`}
        </p>
        {data && data.devices.length > 0 && (
          <Table
            label="Devices"
            head={["Device", "Access", "Packages up to", "Last report", "Last seen", "First seen"]}
            rows={data.devices.map((device) => ({
              key: device.id,
              cells: [
                <a href={to(["devices", device.id])}>{device.id}</a>,
                <Access access={device.access} />,
                device.sequence ? whole(device.sequence) : "none",
                reported(device),
                moment(device.last_seen_at),
                moment(device.first_seen_at),
              ],
            }))}
          />
        )}
        {data && (after || data.next) && (
          <nav class="buttons" aria-label="Pages of the registry">
            {after && <a href={to(["devices"], { search, kind })}>First page</a>}
            {data.next && <a href={to(["devices"], { search, kind, after: data.next })}>Next page</a>}
          </nav>
        )}
      </section>
    </>
  );
}

export function Access({ access }: { access: Listed["access"] }) {
  const variant = { open: "neutral", enrolled: "success", revoked: "danger" } as const;
  const name = { open: "not enrolled", enrolled: "enrolled", revoked: "revoked" }[access];
  return (
    <wa-tag size="s" variant={variant[access]}>
      {name}
    </wa-tag>
  );
}

export function reported({ applied, gain, reason }: Pick<Listed, "applied" | "gain" | "reason">): string {
  if (applied === null) return "none";
  if (!applied) return `refused: ${reason || "no reason given"}`;
  return gain === null ? "taken up" : `taken up, ${signed(gain)} points`;
}
