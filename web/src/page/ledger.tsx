import { exchanges } from "./state";

/** Show every exchange with the server, with the bytes of the bodies. */
export function Ledger() {
  const all = exchanges.value;
  return (
    <section aria-labelledby="ledger">
      <h2 id="ledger">Exchanges with the cloud</h2>
      {all.length === 0 ? (
        <p class="quiet">Nothing yet except the model.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Request</th>
              <th scope="col">Status</th>
              <th scope="col">Bytes up</th>
              <th scope="col">Bytes down</th>
              <th scope="col">ms</th>
            </tr>
          </thead>
          <tbody>
            {all.map((exchange, place) => (
              <tr key={place}>
                <td>
                  <code>{exchange.what}</code>
                </td>
                <td>{exchange.status || "none"}</td>
                <td>{exchange.up.toLocaleString("en")}</td>
                <td>{exchange.down.toLocaleString("en")}</td>
                <td>{exchange.milliseconds.toFixed(0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
