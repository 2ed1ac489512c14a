// Gaussian splats drawn by WebGL2, each as one quad: hub_models/rendering/gaussian_projection.py in a vertex shader.
// Own code, since no viewer on npm fits these pages, which ask nothing of other hosts and forbid workers of blob:
// addresses: @sparkjsdev/spark 2.2.0 is 2.7 MB and needs three.js beside it, @mkkellogg/gaussian-splats-3d 0.4.7 is
// 0.6 MB, needs three.js too and is asked for new maintainers, PlayCanvas is a whole engine, and gsplat 1.2.9 (153 kB)
// starts its workers from blob: addresses.

const TEXTURE_WIDTH = 2048; // which every device has
const SHAPE_TEXELS = 3; // mean and opacity, quaternion, scales

const CONSTANTS = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
const float MIN_ALPHA = 1.0 / 255.0; // what adds less to a pixel is left out
const float MAX_ALPHA = 0.999;
const float BLUR = 0.3; // variance in pixels added to every splat, so that none slips between pixel centres
const float FRUSTUM_MARGIN = 0.15; // of the picture beyond its border: there the affine approximation stops to follow
const float NEAR = 0.01; // smallest depth that is drawn, in scene units
`;

const VERTEX = `${CONSTANTS}
uniform sampler2D shapes, harmonics;
uniform int degree;
uniform mat3 rotation; // world to camera
uniform vec3 translation;
uniform vec2 size, focal; // in pixels
layout(location = 0) in uint splat;
out vec2 place; // in standard deviations
flat out vec4 color; // and opacity

vec4 texel(sampler2D data, int index) {
  int width = textureSize(data, 0).x;
  return texelFetch(data, ivec2(index % width, index / width), 0);
}

mat3 rotation_of(vec4 q) {
  q = normalize(q);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3( // column after column
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)
  );
}

vec3 seen_along(vec3 d) {
  int first = int(splat) * (degree + 1) * (degree + 1);
  #define SH(k) texel(harmonics, first + k).rgb
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  vec3 sum = 0.5 + 0.28209479177387814 * SH(0);
  if (degree > 0) sum += 0.4886025119029199 * (z * SH(2) - y * SH(1) - x * SH(3));
  if (degree > 1) {
    sum += 1.0925484305920792 * (x * y * SH(4) - y * z * SH(5) - x * z * SH(7))
      + 0.31539156525252005 * (2.0 * zz - xx - yy) * SH(6) + 0.5462742152960396 * (xx - yy) * SH(8);
  }
  if (degree > 2) {
    sum += 2.890611442640554 * x * y * z * SH(10) + 1.445305721320277 * z * (xx - yy) * SH(14)
      - 0.5900435899266435 * (y * (3.0 * xx - yy) * SH(9) + x * (xx - 3.0 * yy) * SH(15))
      - 0.4570457994644658 * (4.0 * zz - xx - yy) * (y * SH(11) + x * SH(13))
      + 0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy) * SH(12);
  }
  return max(sum, 0.0);
}

void main() {
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0); // outside of the picture
  int first = int(splat) * ${SHAPE_TEXELS};
  vec4 shape = texel(shapes, first);
  float opacity = shape.w;
  vec3 point = rotation * shape.xyz + translation;
  if (point.z < NEAR || opacity < MIN_ALPHA) return;

  mat3 axes = rotation * rotation_of(texel(shapes, first + 1));
  vec3 scales = texel(shapes, first + 2).xyz;
  mat3 rows = transpose(mat3(axes[0] * scales.x, axes[1] * scales.y, axes[2] * scales.z));
  vec2 limit = (0.5 + FRUSTUM_MARGIN) * size / focal;
  vec2 slope = clamp(point.xy / point.z, -limit, limit);
  vec3 u = focal.x / point.z * (rows[0] - slope.x * rows[2]); // rows of T in covariance T T^t
  vec3 v = focal.y / point.z * (rows[1] - slope.y * rows[2]);
  float a = dot(u, u), b = dot(u, v), c = dot(v, v);
  vec3 normal = cross(u, v);
  float det = dot(normal, normal) + BLUR * (a + c) + BLUR * BLUR; // a * c - b * b cancels for needles

  // The lower Cholesky factor of the covariance takes the square around the unit circle to one around the ellipse.
  float side = sqrt(a + BLUR);
  mat2 factor = mat2(side, b / side, 0.0, sqrt(det) / side);
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  place = corner * sqrt(2.0 * log(opacity / MIN_ALPHA));
  vec2 pixel = focal * point.xy / point.z + factor * place; // from the middle of the picture
  gl_Position = vec4(2.0 * pixel / size * vec2(1.0, -1.0), 0.0, 1.0);
  vec3 eye = -translation * rotation;
  color = vec4(seen_along(normalize(shape.xyz - eye)), opacity);
}`;

const FRAGMENT = `${CONSTANTS}
in vec2 place;
flat in vec4 color;
out vec4 pixel;

void main() {
  float alpha = min(MAX_ALPHA, color.a * exp(-0.5 * dot(place, place)));
  if (alpha < MIN_ALPHA) discard;
  pixel = vec4(color.rgb * alpha, alpha);
}`;

export class SplatRenderer {
  #gl;
  #program;
  #textureSide; // the longest that the device has
  #gaussians = null;
  #drawn = 0;

  /**
   * @param {HTMLCanvasElement} canvas whose width and height are the pixels drawn.
   * @throws {Error} where there is no WebGL2.
   */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, stencil: false });
    if (gl === null) {
      throw new Error("This browser has no WebGL2, which splats need: use a current one with graphics on.");
    }
    this.#gl = gl;
    this.#textureSide = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.#prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault()); // asks to have it restored
    canvas.addEventListener("webglcontextrestored", () => this.#prepare());
  }

  /**
   * Splats to draw from now on, once `setOrder` has said in which order.
   * @param {Gaussians} gaussians as `decodeSplats` gives them.
   * @throws {Error} when there are more than the device's textures or memory hold.
   */
  setSplats(gaussians) {
    const { count, degree, sh } = gaussians;
    const coefficients = (degree + 1) ** 2;
    const most = Math.floor((TEXTURE_WIDTH * this.#textureSide) / Math.max(SHAPE_TEXELS, coefficients));
    if (count > most) {
      throw new Error(`This device draws at most ${most} splats of degree ${degree}, not ${count}.`);
    }
    this.#gaussians = gaussians;
    const gl = this.#gl;
    this.#fill(0, gl.RGBA32F, gl.RGBA, 4, shapesOf(gaussians));
    this.#fill(1, gl.RGB16F, gl.RGB, 3, sh);
    gl.uniform1i(gl.getUniformLocation(this.#program, "degree"), degree);
    this.setOrder(new Uint32Array(0));
    if (gl.getError() === gl.OUT_OF_MEMORY) {
      throw new Error(`The graphics memory of this device does not hold ${count} splats of degree ${degree}.`);
    }
  }

  /** @param {Uint32Array} order indices of the splats to draw, each over those before it. */
  setOrder(order) {
    this.#drawn = order.length;
    this.#gl.bufferData(this.#gl.ARRAY_BUFFER, order, this.#gl.DYNAMIC_DRAW);
  }

  /**
   * Draws the splats over a background, as `rasterize_gaussians` does up to rounding to bytes after each splat.
   * @param {ArrayLike<number>} viewmat world to camera, OpenCV axes, row after row [16].
   * @param {number} fieldOfView vertical, in degrees; the principal point is the middle of the picture.
   * @param {number[]} background red, green and blue in [0, 1].
   */
  draw(viewmat, fieldOfView, background) {
    const gl = this.#gl;
    const { width, height } = gl.canvas;
    const at = (name) => gl.getUniformLocation(this.#program, name);
    const m = Array.from(viewmat);
    const focal = height / 2 / Math.tan((fieldOfView * Math.PI) / 360);
    gl.viewport(0, 0, width, height);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniformMatrix3fv(at("rotation"), true, [...m.slice(0, 3), ...m.slice(4, 7), ...m.slice(8, 11)]);
    gl.uniform3f(at("translation"), m[3], m[7], m[11]);
    gl.uniform2f(at("size"), width, height);
    gl.uniform2f(at("focal"), focal, focal);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.#drawn);
  }

  /** Everything a new context needs. */
  #prepare() {
    const gl = this.#gl;
    this.#program = programOf(gl);
    gl.useProgram(this.#program);
    gl.uniform1i(gl.getUniformLocation(this.#program, "shapes"), 0);
    gl.uniform1i(gl.getUniformLocation(this.#program, "harmonics"), 1);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    for (const unit of [0, 1]) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
        gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
      }
    }
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    if (this.#gaussians !== null) this.setSplats(this.#gaussians);
  }

  #fill(unit, internal, format, channels, values) {
    const gl = this.#gl;
    const height = Math.max(1, Math.ceil(values.length / channels / TEXTURE_WIDTH));
    const texels = new Float32Array(channels * TEXTURE_WIDTH * height);
    texels.set(values);
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, TEXTURE_WIDTH, height, 0, format, gl.FLOAT, texels);
  }
}

function shapesOf({ count, means, logScales, quaternions, opacityLogits }) {
  const shapes = new Float32Array(4 * SHAPE_TEXELS * count);
  for (let i = 0; i < count; i++) {
    const at = 4 * SHAPE_TEXELS * i;
    for (let axis = 0; axis < 3; axis++) {
      shapes[at + axis] = means[3 * i + axis];
      shapes[at + 8 + axis] = Math.exp(logScales[3 * i + axis]);
    }
    shapes[at + 3] = 1 / (1 + Math.exp(-opacityLogits[i]));
    for (let k = 0; k < 4; k++) shapes[at + 4 + k] = quaternions[4 * i + k];
  }
  return shapes;
}

function programOf(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    const reasons = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader)).join(" ");
    throw new Error(`This device cannot compile the shaders of splats: ${reasons} ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}
