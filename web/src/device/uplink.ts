/** Projection of an example's features to the numbers that are sent. */

/** The projection (feature - mean) @ matrix; `matrix` is D x U, in C order, and `dim` is U. */
export interface Uplink {
  mean: Float32Array;
  matrix: Float32Array;
  dim: number;
}

/** Project features (D) to an uplink row (U). */
export function uplinkRow({ mean, matrix, dim }: Uplink, features: Float32Array): Float32Array {
  const row = new Float64Array(dim);
  features.forEach((feature, place) => {
    const centred = Math.fround(feature - mean[place]);
    for (let column = 0; column < dim; column++) row[column] += centred * matrix[place * dim + column];
  });
  return Float32Array.from(row);
}
