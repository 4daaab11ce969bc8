/** Components and hooks that several pages use. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { messageOf } from "../device/errors";
import { call } from "./api";

export interface Fetched<T> {
  data: T | null;
  trouble: string | null;
  again: () => void;
}

/** Fetch the service's answer to `path`, again whenever `path` changes; null fetches nothing. */
export function useFetched<T>(path: string | null): Fetched<T> {
  const [found, setFound] = useState<{ path: string; data: T } | null>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return;
    let isWanted = true;
    setTrouble(null);
    call<T>(path).then(
      (data) => isWanted && setFound({ path, data }),
      (error: unknown) => isWanted && setTrouble(messageOf(error)),
    );
    return () => void (isWanted = false);
  }, [path, turn]);
  return { data: found?.path === path ? found.data : null, trouble, again: () => setTurn((old) => old + 1) };
}

/** Show the heading of a page. It takes the focus, so that screen readers announce the new page. */
export function Heading({ children }: { children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  return (
    <h1 ref={heading} tabIndex={-1}>
      {children}
    </h1>
  );
}

export function Trouble({ children }: { children: ComponentChildren }) {
  return (
    <wa-callout variant="danger" role="alert">
      {children}
    </wa-callout>
  );
}

/** Show a table that may be wider than its page. */
export function Table({
  label,
  head,
  rows,
}: {
  label: string;
  head: string[];
  rows: { key: string | number; cells: ComponentChildren[] }[];
}) {
  return (
    <div class="wide" role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {head.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ key, cells: [first, ...rest] }) => (
            <tr key={key}>
              <th scope="row">{first}</th>
              {rest.map((cell, place) => (
                <td key={place}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="costs">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Show a button that asks for confirmation before it acts. */
export function Confirmed({
  label,
  question,
  deed,
}: {
  label: string;
  question: string;
  deed: () => Promise<void>;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const act = async () => {
    setBusy(true);
    setTrouble(null);
    try {
      await deed();
      dialog.current?.close();
    } catch (error) {
      setTrouble(messageOf(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button class="wa-danger wa-outlined" type="button" onClick={() => dialog.current?.showModal()}>
        {label}
      </button>
      <dialog ref={dialog} aria-label={label}>
        <p>{question}</p>
        {trouble !== null && <Trouble>{trouble}</Trouble>}
        <p class="buttons">
          <button class="wa-danger" type="button" disabled={isBusy} onClick={() => void act()}>
            {label}
          </button>
          <button class="wa-outlined" type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </p>
      </dialog>
    </>
  );
}
