import { execFileSync } from "node:child_process";
import { copyFile, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const OUT = join(import.meta.dirname, "package", "dist");

/** The library's types, with whole file names, as Node's way of finding modules wants them. */
function types(): Plugin {
  return {
    name: "types",
    async closeBundle() {
      const tsc = join(import.meta.dirname, "node_modules", ".bin", "tsc");
      execFileSync(tsc, ["--project", "tsconfig.device.json"], {
        cwd: import.meta.dirname,
        stdio: "inherit",
      });
      const folder = join(OUT, "types");
      for (const name of await readdir(folder, { recursive: true })) {
        if (!name.endsWith(".d.ts")) continue;
        const text = await readFile(join(folder, name), "utf-8");
        await writeFile(join(folder, name), text.replace(/((?:from|import\() ?"\.{1,2}\/[^"]+)"/g, '$1.js"'));
      }
      await copyFile(join(import.meta.dirname, "..", "LICENSE"), join(OUT, "LICENSE"));
    },
  };
}

/** `@paramcast/device`: one file that bundlers shake, the packages that it needs beside it. */
export default defineConfig({
  plugins: [types()],
  build: {
    lib: { entry: "src/device/index.ts", formats: ["es"], fileName: "index" },
    rollupOptions: { external: [/^onnxruntime-web/, "idb-keyval"] },
    outDir: OUT,
    emptyOutDir: true,
    target: "es2024",
    minify: false,
  },
});
