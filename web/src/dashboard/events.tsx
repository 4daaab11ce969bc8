import { route, to } from "../shell/route";
import { may } from "./api";
import { moment } from "./format";
import { Heading, Table, Trouble, useFetched } from "./parts";
import type { Act } from "./types";

const PAGE = 50;

/** Show the changes of the service's state and who made them, the newest first. */
export function EventsPage() {
  const before = route.value.query.get("before");
  const asked = new URLSearchParams({ last: String(PAGE), ...(before !== null && { before }) });
  const { data, trouble } = useFetched<Act[]>(may("operator") ? `/events?${asked}` : null);
  return (
    <>
      <Heading>Events</Heading>
      {!may("operator") && <p class="quiet">Only operators and admins see the events.</p>}
      {trouble !== null && <Trouble>{trouble}</Trouble>}
      {data && !data.length && <p role="status">No acts {before === null ? "yet" : "before these"}.</p>}
      {data && data.length > 0 && (
        <Table
          label="Table of events"
          head={["When", "Who", "What", "Device", "Details"]}
          rows={data.map((act) => ({
            key: act.id,
            cells: [moment(act.at), act.who, act.what, act.device ?? "–", details(act)],
          }))}
        />
      )}
      {data && (before !== null || data.length === PAGE) && (
        <nav class="buttons" aria-label="Pages of events">
          {before !== null && <a href={to(["events"])}>Newest</a>}
          {data.length === PAGE && <a href={to(["events"], { before: String(data[PAGE - 1].id) })}>Older</a>}
        </nav>
      )}
    </>
  );
}

/** Shorten long words, such as keys; `paramcast access events` shows them in full. */
function details({ about }: Act): string {
  const told = Object.entries(about)
    .filter(([, value]) => value !== null)
    .map(([name, value]) =>
      name.endsWith("_at") && typeof value === "number"
        ? `${name.slice(0, -"_at".length)} ${moment(value)}`
        : `${name.replaceAll("_", " ")} ${String(value).slice(0, 12)}`,
    );
  return told.join(", ") || "–";
}
