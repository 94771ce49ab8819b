//! Which font has a character: those that come with a dependency, so that figures look the same on a machine without any, and beyond
//! them what is installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use ab_glyph::{Font, FontRef};
use fontdb::{Database, FaceInfo, ID, Style, Weight};
use unicode_width::UnicodeWidthChar;

/// In the order in which a character is looked up: letters, further symbols, emoji.
pub const BUNDLED: [&[u8]; 3] = [
    epaint_default_fonts::UBUNTU_LIGHT,
    epaint_default_fonts::HACK_REGULAR,
    epaint_default_fonts::NOTO_EMOJI_REGULAR,
];

/// A font for the rest of the program's life.
pub type Face = &'static FontRef<'static>;

static PARSED: LazyLock<Vec<FontRef>> =
    LazyLock::new(|| BUNDLED.iter().filter_map(|bytes| FontRef::try_from_slice(bytes).ok()).collect());

/// Empty until it is needed: to look at all fonts of a system takes a while.
static INSTALLED: OnceLock<Mutex<Installed>> = OnceLock::new();

/// The font of the letters.
pub fn first() -> Option<Face> {
    PARSED.first()
}

/// A font that draws `character`, if there is one.
pub fn with(character: char) -> Option<Face> {
    let bundled = PARSED.iter().find(|font| font.glyph_id(character).0 != 0);
    let installed = || {
        let mut database = Database::new();
        database.load_system_fonts();
        Mutex::new(Installed::new(database))
    };
    bundled.or_else(|| {
        INSTALLED.get_or_init(installed).lock().unwrap_or_else(PoisonError::into_inner).with(character)
    })
}

/// What to tell the user of characters that were drawn as boxes, each once.
pub fn warning() -> Option<String> {
    INSTALLED.get()?.lock().unwrap_or_else(PoisonError::into_inner).warning()
}

/// The fonts of the system, and what was asked of them.
struct Installed {
    database: Database,
    /// The faces by preference.
    faces: Vec<ID>,
    /// Those that draw something, read once and kept: they are few.
    used: BTreeMap<ID, Face>,
    known: BTreeMap<char, Option<Face>>,
    untold: BTreeSet<char>,
}

impl Installed {
    fn new(database: Database) -> Self {
        let mut faces: Vec<&FaceInfo> =
            database.faces().filter(|face| !names(face).contains("lastresort")).collect();
        faces.sort_by_cached_key(|face| preference(face));
        let faces = faces.iter().map(|face| face.id).collect();
        Self { database, faces, used: BTreeMap::new(), known: BTreeMap::new(), untold: BTreeSet::new() }
    }

    fn with(&mut self, character: char) -> Option<Face> {
        if let Some(answer) = self.known.get(&character) {
            return *answer;
        }
        let found = self.find(character);
        self.known.insert(character, found);
        // Marks that only change their neighbours take no room, and are not missed.
        if found.is_none() && character.width() != Some(0) {
            self.untold.insert(character);
        }
        found
    }

    fn find(&mut self, character: char) -> Option<Face> {
        let has = |bytes: &[u8], index| {
            FontRef::try_from_slice_and_index(bytes, index).is_ok_and(|font| draws(&font, character))
        };
        let id = *self.faces.iter().find(|id| self.database.with_face_data(**id, has) == Some(true))?;
        if let Some(face) = self.used.get(&id) {
            return Some(face);
        }
        let (bytes, index) = self.database.with_face_data(id, |bytes, index| (bytes.to_vec(), index))?;
        let font = FontRef::try_from_slice_and_index(Box::leak(bytes.into_boxed_slice()), index).ok()?;
        let face: Face = Box::leak(Box::new(font));
        self.used.insert(id, face);
        Some(face)
    }

    fn warning(&mut self) -> Option<String> {
        const NAMED: usize = 12;
        let missing = std::mem::take(&mut self.untold);
        if missing.is_empty() {
            return None;
        }
        let name = |c: &char| match c.is_alphanumeric() {
            true => format!("{c} (U+{:04X})", u32::from(*c)),
            false => format!("U+{:04X}", u32::from(*c)),
        };
        let named: Vec<String> = missing.iter().take(NAMED).map(name).collect();
        let more = match missing.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let package =
            if missing.iter().any(|c| is_east_asian(*c)) { "fonts-noto-cjk" } else { "fonts-noto-core" };
        Some(format!(
            "no font has {}{more}: figures show boxes for them. Install one, such as Noto \
             (Debian and Ubuntu: `apt install {package}`)",
            named.join(", ")
        ))
    }
}

/// Whether a font has an outline for it; fonts of coloured bitmaps have none.
fn draws(font: &FontRef, character: char) -> bool {
    let id = font.glyph_id(character);
    id.0 != 0 && (character.is_whitespace() || font.outline(id).is_some())
}

fn names(face: &FaceInfo) -> String {
    face.families
        .iter()
        .flat_map(|(name, _)| name.chars())
        .filter(|c| *c != ' ')
        .collect::<String>()
        .to_lowercase()
}

/// What sorts faces: upright ones of normal weight first, then those without serifs, then those that draw Chinese as it is written
/// in the tutorial's country, then by name.
fn preference(face: &FaceInfo) -> (bool, u16, bool, bool, bool, String) {
    let names = names(face);
    (
        face.style != Style::Normal,
        face.weight.0.abs_diff(Weight::NORMAL.0),
        names.contains("serif") && !names.contains("sans"),
        face.monospaced,
        !names.contains("cjksc"),
        names,
    )
}

/// Han characters, kana and hangul, and what stands with them.
fn is_east_asian(character: char) -> bool {
    matches!(character, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_font_is_there() {
        assert_eq!(PARSED.len(), BUNDLED.len());
    }

    #[test]
    fn installed_fonts_have_what_the_bundled_lack() {
        let mut database = Database::new();
        database.load_font_data(include_bytes!("../../tests/goldens/one.ttf").to_vec());
        let mut installed = Installed::new(database);
        let font = installed.with('雛').unwrap();
        assert!(draws(font, '雛') && std::ptr::eq(font, installed.with('\u{10fffd}').unwrap()));
        assert!(installed.with('菊').is_none());
        assert!(installed.warning().unwrap().contains("no font has 菊"));
    }

    #[test]
    fn what_no_font_has_is_told_once_with_a_package() {
        let mut none = Installed::new(Database::new());
        assert_eq!(none.warning(), None);
        for character in ['雛', '菊', '雛', '\u{fe0f}', '\u{301}'] {
            assert!(none.with(character).is_none());
        }
        let words = none.warning().unwrap();
        assert!(words.contains("菊 (U+83CA), 雛 (U+96DB)") && words.contains("fonts-noto-cjk"), "{words}");
        assert!(none.with('雛').is_none());
        assert_eq!(none.warning(), None);
        for character in '\u{e000}'..'\u{e020}' {
            none.with(character);
        }
        let words = none.warning().unwrap();
        assert!(words.contains(" and 20 more") && words.contains("fonts-noto-core`"), "{words}");
    }
}
