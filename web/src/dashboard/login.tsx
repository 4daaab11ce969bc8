import { useState } from "preact/hooks";
import { messageOf } from "../device/errors";
import { signIn, whyOut } from "./api";
import { Heading, Trouble } from "./parts";

/** Show the sign-in form to users without a token. */
export function Login() {
  const [token, setToken] = useState("");
  const [trouble, setTrouble] = useState<string | null>(null);
  return (
    <main tabIndex={-1} class="narrow">
      <Heading>Sign in</Heading>
      <section aria-label="Sign in">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            setTrouble(null);
            signIn(token.trim()).catch((error: unknown) => setTrouble(messageOf(error)));
          }}
        >
          <p>
            The fleet is for its operators. A token is made on the service's machine:{" "}
            <code>paramcast access grant NAME --role viewer</code>. This tab keeps it until it is closed.
          </p>
          <label>
            Operator's token
            <input
              type="password"
              autocomplete="off"
              maxLength={100}
              value={token}
              onInput={(event) => setToken(event.currentTarget.value)}
            />
          </label>
          <button type="submit" disabled={!token.trim()}>
            Sign in
          </button>
        </form>
      </section>
      {(whyOut.value ?? trouble) !== null && <Trouble>{whyOut.value ?? trouble}</Trouble>}
    </main>
  );
}
