//! Draws a scene with anti-aliased shapes.
//!
//! Every coordinate comes from the scene's facts and from integer draws, and the rasteriser fills
//! on the CPU in fixed point, so the bytes are the same on every machine. A *view* changes the
//! pose, the place, the light and the crop; never a fact.

use debias_core::{Picture, seed};
use rand::Rng;
use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Transform};

use super::WORLD_SEED;
use super::scene::Scene;

/// Width and height of every picture, in pixels.
pub const SIDE: u32 = 64;

type Rgb = [u8; 3];

const TEAL: Rgb = [20, 150, 140];
const AMBER: Rgb = [238, 150, 40];
const GRASS: Rgb = [96, 168, 72];
const BALLS: [Rgb; 5] = [
    [220, 30, 40],
    [40, 70, 220],
    [248, 248, 248],
    [140, 40, 170],
    [24, 24, 28],
];
const BALLOON: Rgb = [255, 96, 160];
const SKIES: [Rgb; 4] = [
    [110, 190, 255],
    [78, 90, 116],
    [168, 152, 204],
    [176, 186, 196],
];

/// Places of the balloons in the order in which they appear.
const BALLOON_PLACES: [[f32; 2]; 4] = [[9.5, 23.0], [54.5, 23.0], [9.5, 37.0], [54.5, 37.0]];

/// How one view differs from another.
struct Look {
    /// Shift of the whole scene and of the inhabitant, in pixels.
    shift: [f32; 2],
    step: [f32; 2],
    /// Zoom about the centre, 1 to 1.12.
    zoom: f32,
    /// Light per colour channel, in percent.
    light: [u32; 3],
    /// Arms lowered, spread or raised.
    pose: u32,
    /// Small displacements of the ball and the balloons.
    jitter: [[f32; 2]; 5],
}

impl Look {
    fn of(scene: &Scene, view: u32) -> Self {
        let mut rng = seed::stream(
            WORLD_SEED,
            &["toytown", "look", &scene.key(), &view.to_string()],
        );
        // Quarters of a pixel: exact in binary, hence equal everywhere.
        let mut within = |quarters: i32| rng.random_range(-quarters..=quarters) as f32 / 4.0;
        let shift = [within(6), within(6)];
        let step = [within(10), within(6)];
        let jitter = std::array::from_fn(|_| [within(6), within(6)]);
        let base = rng.random_range(88..=112u32);
        Self {
            shift,
            step,
            jitter,
            zoom: 1.0 + rng.random_range(0..=12u32) as f32 / 100.0,
            light: std::array::from_fn(|_| base + rng.random_range(0..=6) - 3),
            pose: (rng.random_range(0..3u32) + view) % 3,
        }
    }
}

/// Draws `scene` as seen in `view`; equal arguments give equal bytes.
pub fn draw(scene: &Scene, view: u32) -> Picture {
    let look = Look::of(scene, view);
    let mut canvas = Canvas::new(&look);
    weather(&mut canvas, scene);
    inhabitant(&mut canvas, scene, &look);
    balloons(&mut canvas, scene, &look);
    ball(&mut canvas, scene, &look);
    canvas.finish(&look)
}

fn weather(canvas: &mut Canvas, scene: &Scene) {
    canvas.rect(-16.0, -16.0, 96.0, 68.0, SKIES[usize::from(scene.weather)]);
    canvas.rect(-16.0, 46.0, 96.0, 40.0, GRASS);
    match scene.weather {
        0 => {
            canvas.circle(10.0, 9.0, 7.5, [255, 236, 90]);
            canvas.circle(10.0, 9.0, 5.0, [255, 210, 30]);
        }
        1 => {
            let drops = (0..27).map(|drop| {
                let (column, row) = (drop / 3, drop % 3);
                let x = (column * 8 + row * 2 - 2) as f32;
                let y = (row * 14 + column % 2 * 6 - 2) as f32;
                [[x, y], [x + 1.6, y], [x - 1.4, y + 8.0], [x - 3.0, y + 8.0]]
            });
            canvas.polygons(drops, [150, 190, 250]);
        }
        2 => {
            let flakes = (0..28).map(|flake| {
                let (column, row) = (flake / 4, flake % 4);
                let x = (column * 10 + row % 2 * 5) as f32;
                [x, (row * 11 + 3) as f32, 1.9]
            });
            canvas.circles(flakes, [255, 255, 255]);
        }
        _ => {
            let puffs = [
                [4.0, 8.0, 6.0],
                [13.0, 6.0, 7.0],
                [21.0, 9.0, 5.0],
                [44.0, 8.0, 6.0],
                [53.0, 6.0, 7.0],
                [61.0, 9.0, 5.0],
            ];
            canvas.circles(puffs, [244, 246, 248]);
        }
    }
}

fn balloons(canvas: &mut Canvas, scene: &Scene, look: &Look) {
    let shown = usize::from(scene.balloons) + 1;
    for ([x, y], [dx, dy]) in BALLOON_PLACES.iter().zip(look.jitter).take(shown) {
        let (x, y) = (x + dx, y + dy);
        canvas.rect(x - 0.5, y + 3.0, 1.0, 6.0, [60, 40, 50]);
        canvas.circle(x, y, 4.25, BALLOON);
        canvas.circle(x - 1.25, y - 1.5, 1.0, [255, 216, 232]);
    }
}

fn ball(canvas: &mut Canvas, scene: &Scene, look: &Look) {
    let [dx, dy] = look.jitter[4];
    let x = if scene.side == 0 { 10.0 } else { 54.0 } + dx;
    let y = 54.0 + dy;
    canvas.circle(x, y, 7.0, [52, 92, 40]);
    canvas.circle(x, y, 6.0, BALLS[usize::from(scene.ball)]);
}

fn inhabitant(canvas: &mut Canvas, scene: &Scene, look: &Look) {
    let [x, y] = [32.0 + look.step[0], look.step[1]];
    let [race, gender, age, profession] = scene.groups;
    let skin = if race == 0 { TEAL } else { AMBER };
    canvas.rect(x - 6.5, y + 52.0, 5.0, 8.0, skin);
    canvas.rect(x + 1.5, y + 52.0, 5.0, 8.0, skin);
    arms(canvas, x, y, look.pose, skin);
    canvas.polygon(
        [
            [x - 7.0, y + 28.0],
            [x + 7.0, y + 28.0],
            [x + 10.0, y + 54.0],
            [x - 10.0, y + 54.0],
        ],
        skin,
    );
    canvas.circle(x, y + 22.0, 8.0, skin);
    for side in [-3.0, 3.0] {
        canvas.circle(x + side, y + 21.0, 1.9, [255, 255, 255]);
        canvas.circle(x + side, y + 21.0, 0.9, [20, 20, 20]);
    }
    hat(canvas, x, y, gender);
    scarf(canvas, x, y, age);
    if profession == 0 {
        canvas.circle(x + 4.0, y + 43.0, 5.5, [30, 50, 190]);
        canvas.circle(x + 4.0, y + 43.0, 3.75, [250, 250, 255]);
    } else {
        canvas.rect(x - 1.0, y + 38.0, 10.5, 10.5, [92, 52, 24]);
        canvas.rect(x + 2.5, y + 42.0, 3.5, 3.0, [250, 214, 60]);
    }
}

fn arms(canvas: &mut Canvas, x: f32, y: f32, pose: u32, skin: Rgb) {
    let hand = [[13.0, 46.0], [15.0, 38.0], [14.0, 27.0]][pose as usize % 3];
    for side in [-1.0, 1.0] {
        let [hx, hy] = [x + side * hand[0], y + hand[1]];
        canvas.polygon(
            [
                [x + side * 5.0, y + 29.0],
                [hx, hy - 1.5],
                [hx, hy + 2.5],
                [x + side * 6.0, y + 35.0],
            ],
            skin,
        );
        canvas.circle(hx, hy, 2.25, skin);
    }
}

fn hat(canvas: &mut Canvas, x: f32, y: f32, group: u8) {
    if group == 0 {
        let cone = [[x, y - 1.0], [x + 8.5, y + 17.0], [x - 8.5, y + 17.0]];
        canvas.polygon(cone, [112, 20, 110]);
    } else {
        canvas.circle(x, y + 12.0, 6.5, [250, 240, 190]);
        canvas.rect(x - 12.0, y + 13.0, 24.0, 4.5, [250, 240, 190]);
        canvas.rect(x - 6.5, y + 11.5, 13.0, 2.0, [70, 60, 40]);
    }
}

fn scarf(canvas: &mut Canvas, x: f32, y: f32, group: u8) {
    let (cloth, stripe) = if group == 0 {
        ([252, 252, 252], [16, 16, 20])
    } else {
        ([196, 24, 44], [196, 24, 44])
    };
    canvas.rect(x - 8.0, y + 28.0, 16.0, 5.0, cloth);
    canvas.rect(x - 8.5, y + 31.0, 6.0, 21.0, cloth);
    for band in 0..4 {
        let along = band as f32;
        canvas.rect(x - 7.0 + along * 4.0, y + 28.0, 2.0, 5.0, stripe);
        canvas.rect(x - 8.5, y + 34.0 + along * 5.0, 6.0, 2.5, stripe);
    }
}

/// A pixmap seen through one view's transform.
struct Canvas {
    pixels: Pixmap,
    view: Transform,
}

impl Canvas {
    fn new(look: &Look) -> Self {
        let centre = SIDE as f32 / 2.0;
        Self {
            pixels: Pixmap::new(SIDE, SIDE).expect("64 x 64 is a valid size"),
            view: Transform::from_translate(-centre, -centre)
                .post_scale(look.zoom, look.zoom)
                .post_translate(centre + look.shift[0], centre + look.shift[1]),
        }
    }

    fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Rgb) {
        let rect = Rect::from_xywh(x, y, width, height).expect("drawn rectangles are not empty");
        self.fill(&PathBuilder::from_rect(rect), colour);
    }

    fn circle(&mut self, x: f32, y: f32, radius: f32, colour: Rgb) {
        self.circles([[x, y, radius]], colour);
    }

    /// Fills circles given as `[x, y, radius]`, in one go because each fill costs a scan.
    fn circles(&mut self, circles: impl IntoIterator<Item = [f32; 3]>, colour: Rgb) {
        let mut builder = PathBuilder::new();
        for [x, y, radius] in circles {
            builder.push_circle(x, y, radius);
        }
        self.fill(
            &builder.finish().expect("drawn circles are not empty"),
            colour,
        );
    }

    fn polygon<const N: usize>(&mut self, corners: [[f32; 2]; N], colour: Rgb) {
        self.polygons([corners], colour);
    }

    /// Fills polygons of `N` corners in one go.
    fn polygons<const N: usize>(
        &mut self,
        polygons: impl IntoIterator<Item = [[f32; 2]; N]>,
        colour: Rgb,
    ) {
        let mut builder = PathBuilder::new();
        for corners in polygons {
            for (index, [x, y]) in corners.into_iter().enumerate() {
                match index {
                    0 => builder.move_to(x, y),
                    _ => builder.line_to(x, y),
                }
            }
            builder.close();
        }
        self.fill(
            &builder.finish().expect("drawn polygons are not empty"),
            colour,
        );
    }

    fn fill(&mut self, path: &Path, [r, g, b]: Rgb) {
        let mut paint = Paint {
            anti_alias: true,
            ..Paint::default()
        };
        paint.set_color(Color::from_rgba8(r, g, b, 255));
        self.pixels
            .fill_path(path, &paint, FillRule::Winding, self.view, None);
    }

    fn finish(self, look: &Look) -> Picture {
        let rgb = self
            .pixels
            .data()
            .chunks_exact(4)
            .flat_map(|pixel| {
                std::array::from_fn::<u8, 3, _>(|channel| {
                    let lit = u32::from(pixel[channel]) * look.light[channel] / 100;
                    lit.min(255) as u8
                })
            })
            .collect();
        Picture::new(SIDE, SIDE, rgb).expect("the pixmap has 64 x 64 pixels")
    }
}
