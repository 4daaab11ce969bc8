/** ONNX Runtime in the tab: on WebAssembly, with the image trunk on WebGPU where the hardware has it. */

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

/** The node that shrinks frames. It runs on the CPU, because WebGPU's kernel lacks the antialiasing of training. */
const ON_CPU = ["resized"];

/**
 * Load ONNX Runtime.
 *
 * @param wanted backend; null for WebGPU if the browser has it on real hardware, else WebAssembly.
 */
export async function loadEngine(wanted: Backend | null): Promise<Engine> {
  const backend = wanted ?? ((await hasGpu()) ? "webgpu" : "wasm");
  const ort = await (backend === "webgpu" ? import("onnxruntime-web/jspi") : import("onnxruntime-web/wasm"));
  // Threads share memory, which browsers allow only for pages that are isolated from other origins.
  const threads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = backend === "webgpu" ? { mjs: jspiGlue, wasm: jspiWasm } : { mjs: glue, wasm };
  ort.env.logLevel = "error";
  return { backend, threads, ort };
}

async function hasGpu(): Promise<boolean> {
  if (!("Suspending" in WebAssembly)) return false; // this build of ONNX Runtime needs it to wait for the GPU
  const adapter = await (navigator as { gpu?: Gpu }).gpu?.requestAdapter();
  return adapter ? !adapter.info.isFallbackAdapter : false;
}

/** The used part of WebGPU, which TypeScript's library does not describe. */
interface Gpu {
  requestAdapter(): Promise<{ info: { isFallbackAdapter?: boolean } } | null>;
}

/** Open the image trunk where the engine runs it. */
export function openTrunk({ backend, ort }: Engine, graph: Uint8Array): Promise<Session> {
  if (backend === "wasm") return ort.InferenceSession.create(graph);
  const provider = { name: "webgpu" as const, forceCpuNodeNames: ON_CPU };
  return ort.InferenceSession.create(graph, { executionProviders: [provider, "wasm"] });
}
