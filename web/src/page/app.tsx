import { Adaptation } from "./adaptation";
import { Answers } from "./answers";
import { Clips } from "./clips";
import { Ledger } from "./ledger";
import { Model } from "./model";
import { ArrayModel } from "./module";
import { busy, module, note, opened, trouble } from "./state";

export function App() {
  return (
    <main tabIndex={-1}>
      <header>
        <h1>paramcast</h1>
        <p>
          {module.value
            ? "A device in this tab. The model runs here; the cloud is sent a few numbers an example, and makes parameters for you."
            : "A device in this tab. The model runs here; the cloud is sent features of one frame a clip and of the questions, and makes parameters for you. Your pictures stay here."}
        </p>
      </header>
      {module.value === null && <Model />}
      {trouble.value !== null && (
        <wa-callout variant="danger" role="alert">
          {trouble.value}
        </wa-callout>
      )}
      {module.value && <ArrayModel model={module.value} />}
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
