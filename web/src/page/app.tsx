import { Adaptation } from "./adaptation";
import { Answers } from "./answers";
import { Clips } from "./clips";
import { Ledger } from "./ledger";
import { Model } from "./model";
import { busy, note, opened, trouble } from "./state";

export function App() {
  return (
    <main tabIndex={-1}>
      <header>
        <h1>paramcast</h1>
        <p>
          A device in this tab. The model runs here; the cloud is sent features of one frame a clip and of the
          questions, and makes parameters for you. Your pictures stay here.
        </p>
      </header>
      <Model />
      {trouble.value !== null && (
        <wa-callout variant="danger" role="alert">
          {trouble.value}
        </wa-callout>
      )}
      {opened.value && (
        <>
          <Clips />
          <Answers />
          <Adaptation />
          <Ledger />
        </>
      )}
      <p class="status" role="status" aria-live="polite">
        {busy.value ? `${busy.value} …` : note.value}
      </p>
    </main>
  );
}
