import { loaded, opened, status, trouble } from "./state";

const TASKS = {
  qa: "answers questions",
  choice: "chooses among answers",
  retrieval: "finds clips by a text",
};

/** Show the model that runs in the tab, or the progress of loading it. */
export function Model() {
  const model = opened.value;
  if (!model) {
    const { done, total } = loaded.value;
    if (trouble.value !== null) return null;
    return <wa-progress-bar label="Loading the model" value={total ? (100 * done) / total : 0} />;
  }
  return (
    <ul class="facts" aria-label="The model in this tab">
      <li>{TASKS[model.task]}</li>
      <li>
        base model <code>{model.model.slice(0, 12)}</code>, {(model.bytes / 1e6).toFixed(0)} MB
      </li>
      <li>
        runs on <Engine {...model} />
      </li>
      <li>
        this device is <code>{status.value?.device}</code>
        {model.enrolled && ", enrolled"}
      </li>
    </ul>
  );
}

export function Engine({ backend, threads }: { backend: string; threads: number }) {
  const name = backend === "webgpu" ? "WebGPU and WebAssembly" : "WebAssembly";
  return (
    <>
      {name}, {threads} {threads === 1 ? "thread" : "threads"}
    </>
  );
}
