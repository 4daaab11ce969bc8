import type { TensorSpec } from "../device/inputs";
import { Engine } from "./model";
import type { OpenedModule } from "./tab";

/** Show a model that takes arrays: its properties and how to use it. */
export function ArrayModel({ model }: { model: OpenedModule }) {
  return (
    <>
      <ul class="facts" aria-label="The model in this tab">
        <li>{model.task}</li>
        <li>
          base model <code>{model.model.slice(0, 12)}</code>
        </li>
        <li>adapter {model.adapter}</li>
        <li>
          runs on <Engine {...model} />
        </li>
      </ul>
      <section aria-labelledby="tensors">
        <h2 id="tensors">Inputs and outputs</h2>
        <Tensors label="Inputs" tensors={model.inputs} />
        <Tensors label="Outputs" tensors={model.outputs} />
        {model.labels && <p>Classes: {model.labels.join(", ")}.</p>}
      </section>
      <section aria-labelledby="use">
        <h2 id="use">Use it</h2>
        <p>
          This model takes arrays, not videos: use the library. It has run here on the example that it was
          exported with.
        </p>
        <pre>
          <code>{example(model)}</code>
        </pre>
        <p class="quiet">
          In Python: <code>paramcast.Device("artifact/device", server="{location.origin}")</code>.
        </p>
      </section>
    </>
  );
}

function Tensors({ label, tensors }: { label: string; tensors: readonly TensorSpec[] }) {
  return (
    <table aria-label={label}>
      <thead>
        <tr>
          <th scope="col">{label}</th>
          <th scope="col">Type</th>
          <th scope="col">Shape</th>
        </tr>
      </thead>
      <tbody>
        {tensors.map(({ name, dtype, shape }) => (
          <tr key={name}>
            <td>
              <code>{name}</code>
            </td>
            <td>{dtype}</td>
            <td>{shapeOf(shape)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function shapeOf(shape: TensorSpec["shape"]): string {
  return `[${shape.map((size) => size ?? "any").join(", ")}]`;
}

function example({ inputs, model }: OpenedModule): string {
  const [{ name, shape }] = inputs;
  return `import { Device, browserTable } from "@paramcast/device";

const device = await Device.open({
  server: "${location.origin}",
  model: "${model}",
  id: "browser-1",
  store: browserTable(),
});
const ${variable(name)} = { data, shape: [${shape.map((size) => size ?? 1).join(", ")}] };
await device.observe(${inputs.length === 1 ? variable(name) : `[${variable(name)}, ...]`});
await device.adapt();`;
}

function variable(name: string): string {
  return name.replace(/\W/g, "_");
}
