/** The elements of Web Awesome that the page uses, for TypeScript. */

import type { HTMLAttributes } from "preact";

type Variant = "brand" | "neutral" | "success" | "warning" | "danger";

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements {
      "wa-callout": HTMLAttributes<HTMLElement> & { variant?: Variant };
      "wa-progress-bar": HTMLAttributes<HTMLElement> & { value?: number; label?: string };
      "wa-tag": HTMLAttributes<HTMLElement> & { variant?: Variant; size?: "s" | "m" | "l" };
    }
  }
}
