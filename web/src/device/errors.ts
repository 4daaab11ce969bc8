/** What a device cannot do for its user, and why. */

/** The bundle is damaged, or not one for this page. */
export class BundleError extends Error {
  override name = "BundleError";
}

/** The cloud cannot be reached, or refuses. `code` is its own word for a refusal of a signature. */
export class CloudError extends Error {
  override name = "CloudError";
  constructor(
    message: string,
    readonly code?: string,
  ) {
    super(message);
  }
}

/** What the user gave cannot be used. */
export class DeviceInputError extends Error {
  override name = "DeviceInputError";
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
