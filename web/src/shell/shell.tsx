import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { messageOf } from "../device/errors";
import { route, to } from "./route";

const PAGES = [
  { name: "", title: "Try it" },
  { name: "fleet", title: "Fleet" },
  { name: "devices", title: "Devices" },
  { name: "models", title: "Models" },
  { name: "events", title: "Events" },
];

/** Parts that are loaded when they are first shown: the device in the tab, and the operators' dashboard. */
const device = signal<ComponentType | null>(null);
const dashboard = signal<ComponentType | null>(null);
const trouble = signal<string | null>(null);

async function bring(isDevice: boolean): Promise<void> {
  try {
    if (isDevice) device.value ??= (await import("../page/start")).App;
    else dashboard.value ??= (await import("../dashboard/dashboard")).Dashboard;
  } catch (error) {
    trouble.value = `This page could not be loaded: ${messageOf(error)}`;
  }
}

/** Show the pages and the navigation between them. */
export function Shell() {
  const name = route.value.parts[0] ?? "";
  const title = PAGES.find((page) => page.name === name)?.title ?? "No such page";
  useEffect(() => {
    document.title = `${title} · paramcast`;
    void bring(name === "");
  }, [name]);
  const Page = name === "" ? device.value : dashboard.value;
  return (
    <>
      <header class="top">
        <a
          class="skip"
          href={location.hash || "#/"}
          onClick={(event) => {
            event.preventDefault();
            document.querySelector("main")?.focus();
          }}
        >
          Skip to the page
        </a>
        <nav aria-label="Pages">
          {PAGES.map((page) => (
            <a
              key={page.name}
              href={to(page.name ? [page.name] : [])}
              aria-current={page.name === name ? "page" : undefined}
            >
              {page.title}
            </a>
          ))}
        </nav>
      </header>
      {trouble.value !== null ? (
        <main tabIndex={-1}>
          <h1>paramcast</h1>
          <wa-callout variant="danger" role="alert">
            {trouble.value}
          </wa-callout>
        </main>
      ) : (
        Page && <Page />
      )}
    </>
  );
}
