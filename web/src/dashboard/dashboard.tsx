import "./dashboard.css";
import { useEffect } from "preact/hooks";
import { messageOf } from "../device/errors";
import { route } from "../shell/route";
import { operator, signIn, signOut } from "./api";
import { DevicePage } from "./device";
import { DevicesPage } from "./devices";
import { EventsPage } from "./events";
import { FleetPage } from "./fleet";
import { Login } from "./login";
import { ModelsPage } from "./models";
import { Heading } from "./parts";

/** Show the pages for operators. */
export function Dashboard() {
  useEffect(() => {
    if (operator.value === undefined) signIn().catch((error: unknown) => signOut(messageOf(error)));
  }, []);
  if (operator.value === undefined) return <main tabIndex={-1} aria-busy="true" />;
  if (operator.value === null) return <Login />;
  const { name, role } = operator.value;
  return (
    <>
      <aside class="who" aria-label="Signed in">
        {name} ({role})
        <button class="wa-plain" type="button" onClick={() => signOut()}>
          Sign out
        </button>
      </aside>
      <main tabIndex={-1} class="dashboard">
        <Page parts={route.value.parts} />
      </main>
    </>
  );
}

function Page({ parts: [name, id] }: { parts: string[] }) {
  if (name === "fleet") return <FleetPage />;
  if (name === "devices") return id ? <DevicePage key={id} id={id} /> : <DevicesPage />;
  if (name === "models") return <ModelsPage />;
  if (name === "events") return <EventsPage />;
  return (
    <>
      <Heading>No such page</Heading>
      <p>The address leads nowhere.</p>
    </>
  );
}
