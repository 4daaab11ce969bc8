import { useState } from "preact/hooks";
import { adapt, adapted, busy, clips, enrol, rollBack, status, wantsToken } from "./state";

/** Show the controls that request an update from the server, and roll back. */
export function Adaptation() {
  const now = status.value;
  const isBase = now?.source === "base";
  return (
    <section aria-labelledby="adaptation">
      <h2 id="adaptation">3. Have it adapted to you</h2>
      <p>
        The support set is every clip above with its questions: {clips.value.length}{" "}
        {clips.value.length === 1 ? "clip" : "clips"}. No answers are needed.
      </p>
      <p class="buttons">
        <button disabled={busy.value !== null || !clips.value.length} onClick={() => void adapt()}>
          Ask the cloud for parameters
        </button>
        {!isBase && (
          <button class="wa-outlined" disabled={busy.value !== null} onClick={() => void rollBack(0)}>
            Back to the base model
          </button>
        )}
        {isBase && now.packages.length > 0 && (
          <button
            class="wa-outlined"
            disabled={busy.value !== null}
            onClick={() => void rollBack(now.packages.at(-1)!)}
          >
            Package {now.packages.at(-1)} again
          </button>
        )}
      </p>
      {now && (
        <p class="runs">
          <wa-tag size="s" variant={isBase ? "neutral" : "success"}>
            {isBase ? "base model" : `package ${now.sequence}`}
          </wa-tag>{" "}
          {now.why}
          {now.expired && "; it has expired, but continues to run"}.
        </p>
      )}
      {now?.refused && (
        <wa-callout variant="warning">
          Refused ({now.refused.error}): {now.refused.message}
        </wa-callout>
      )}
      {now?.storeError && (
        <wa-callout variant="warning">The browser cannot store packages: {now.storeError}</wa-callout>
      )}
      <Costs />
      {wantsToken.value && <Enrolment />}
    </section>
  );
}

function Costs() {
  const last = adapted.value;
  if (!last) return null;
  const rows: [string, string][] = [
    ["bytes up", last.bytesUp.toLocaleString("en")],
    ["bytes down", last.bytesDown.toLocaleString("en")],
    ["milliseconds in all", last.milliseconds.toFixed(1)],
    ["milliseconds to check, try, store and swap", last.swapMs.toFixed(1)],
    ["form", `${last.form}, ${last.quantization}`],
    ["can be applied until", new Date(1000 * last.expires).toLocaleString()],
  ];
  return (
    <>
      {last.isBase && (
        <p>
          The cloud expects no gain from other parameters here: this package has the base model's parameters.
        </p>
      )}
      <dl class="costs">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Enrolment() {
  const [token, setToken] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void enrol(token.trim());
      }}
    >
      <p>
        This service adapts enrolled devices only. Its operator gives a token: <code>paramcast enroll</code>.
        The key that this tab makes cannot leave the browser.
      </p>
      <label>
        Token
        <input
          type="text"
          autocomplete="off"
          maxLength={100}
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
      </label>
      <button type="submit" disabled={busy.value !== null || !token.trim()}>
        Enrol this tab
      </button>
    </form>
  );
}
