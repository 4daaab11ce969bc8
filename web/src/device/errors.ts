/** What a device cannot do for its user, and why. */

/** The exported folder is damaged, or not one for this kind of device. */
export class ArtifactError extends Error {
  override name = "ArtifactError";
}

/** The cloud cannot be reached, or refuses. */
export class CloudError extends Error {
  override name = "CloudError";
}

/** The cloud adapts enrolled devices only, and this is none. */
export class NotEnrolled extends Error {
  override name = "NotEnrolled";
}

/** What the user gave cannot be used. */
export class DeviceInputError extends Error {
  override name = "DeviceInputError";
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
