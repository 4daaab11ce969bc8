/** ONNX Runtime in the tab: on WebAssembly, and the image trunk on WebGPU where there is a real one. */

import type * as Ort from "onnxruntime-web/wasm";
import jspiGlue from "onnxruntime-web/ort-wasm-simd-threaded.jspi.mjs?url";
import jspiWasm from "onnxruntime-web/ort-wasm-simd-threaded.jspi.wasm?url";
import glue from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

export type Backend = "wasm" | "webgpu";
export type Session = Ort.InferenceSession;
export type Tensor = Ort.Tensor;

export interface Engine {
  backend: Backend;
  threads: number;
  ort: typeof Ort;
}

/** The node that shrinks frames: WebGPU's own kernel has no antialiasing, which training had. */
const ON_CPU = ["resized"];

/**
 * Load ONNX Runtime.
 *
 * @param wanted null: WebGPU if the browser has one on real hardware, else WebAssembly.
 */
export async function loadEngine(wanted: Backend | null): Promise<Engine> {
  const backend = wanted ?? ((await hasGpu()) ? "webgpu" : "wasm");
  const ort = await (backend === "webgpu" ? import("onnxruntime-web/jspi") : import("onnxruntime-web/wasm"));
  // Threads share memory, which browsers allow to pages that are isolated from other origins.
  const threads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = backend === "webgpu" ? { mjs: jspiGlue, wasm: jspiWasm } : { mjs: glue, wasm };
  ort.env.logLevel = "error";
  return { backend, threads, ort };
}

async function hasGpu(): Promise<boolean> {
  if (!("Suspending" in WebAssembly)) return false; // this build of ONNX Runtime waits for the GPU by it
  const adapter = await (navigator as { gpu?: Gpu }).gpu?.requestAdapter();
  return adapter ? !adapter.info.isFallbackAdapter : false;
}

/** What is used of WebGPU, which TypeScript's own library does not describe. */
interface Gpu {
  requestAdapter(): Promise<{ info: { isFallbackAdapter?: boolean } } | null>;
}

/** Open the image trunk where the engine runs it. */
export function openTrunk({ backend, ort }: Engine, graph: Uint8Array): Promise<Session> {
  if (backend === "wasm") return ort.InferenceSession.create(graph);
  const provider = { name: "webgpu" as const, forceCpuNodeNames: ON_CPU };
  return ort.InferenceSession.create(graph, { executionProviders: [provider, "wasm"] });
}
