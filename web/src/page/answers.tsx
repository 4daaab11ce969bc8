import { useState } from "preact/hooks";
import type { Ranked } from "../video/ranking";
import { type Asked, ask, asked, busy, clips, nameOf, opened, status } from "./state";

/** Show the form for questions, and the answers before and after adaptation. */
export function Answers() {
  const { task } = opened.value!;
  const [text, setText] = useState("");
  const [options, setOptions] = useState("");
  const offered = options.split("\n").flatMap((line) => line.trim() || []);
  const ready = busy.value === null && clips.value.length > 0;
  const isWhole = text.trim() !== "" && (task !== "choice" || offered.length > 0);
  return (
    <section aria-labelledby="answers">
      <h2 id="answers">2. Ask</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (ready && isWhole) void ask(text, offered);
        }}
      >
        <label>
          {task === "retrieval" ? "What to look for" : "Question"}
          <input
            type="text"
            value={text}
            maxLength={500}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        {task === "choice" && (
          <label>
            Answers to choose from, one a line
            <textarea rows={3} value={options} onInput={(event) => setOptions(event.currentTarget.value)} />
          </label>
        )}
        <button type="submit" disabled={!ready || !isWhole}>
          {task === "retrieval" ? "Search" : "Ask"}
        </button>
        {!clips.value.length && <p class="quiet">Open a video first.</p>}
      </form>
      {asked.value.map((one, place) => (
        <Answer key={asked.value.length - place} asked={one} />
      ))}
    </section>
  );
}

function Answer({ asked: { query, comparison } }: { asked: Asked }) {
  const { base, own, baseMs, ownMs, textMs } = comparison;
  const clip = query.clip === null ? null : clips.value[query.clip].name;
  return (
    <article class="answer">
      <h3>
        {query.text}
        {clip && <small> about {clip}</small>}
      </h3>
      <div class="columns">
        <Ranking title="Base model" ranked={base} milliseconds={textMs + baseMs} />
        {own ? (
          <Ranking
            title={`Adapted, package ${status.value?.sequence}`}
            ranked={own}
            milliseconds={textMs + ownMs!}
          />
        ) : (
          <p class="quiet">Adapted: not yet.</p>
        )}
      </div>
    </article>
  );
}

function Ranking({ title, ranked, milliseconds }: { title: string; ranked: Ranked[]; milliseconds: number }) {
  return (
    <div>
      <h4>{title}</h4>
      <ol class="ranking">
        {ranked.map(({ text, score }) => (
          <li key={text} style={{ "--share": `${100 * Math.max(0, score)}%` }}>
            <span>{nameOf(text)}</span> <span class="score">{shownScore(score)}</span>
          </li>
        ))}
      </ol>
      <p class="quiet">{milliseconds.toFixed(1)} ms from the question to the answer</p>
    </div>
  );
}

function shownScore(score: number): string {
  return opened.value!.task === "retrieval" ? score.toFixed(2) : `${(100 * score).toFixed(1)} %`;
}
