//! Finds a font that has a character: first among the fonts of a dependency, so that figures do not
//! depend on the machine, then among the installed fonts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use ab_glyph::{Font, FontRef};
use fontdb::{Database, FaceInfo, ID, Style, Weight};
use unicode_width::UnicodeWidthChar;

/// The bundled fonts in the order in which a character is looked up: letters, further symbols,
/// emoji.
pub const BUNDLED: [&[u8]; 3] = [
    epaint_default_fonts::UBUNTU_LIGHT,
    epaint_default_fonts::HACK_REGULAR,
    epaint_default_fonts::NOTO_EMOJI_REGULAR,
];

/// A font that is never freed.
pub type Face = &'static FontRef<'static>;

static PARSED: LazyLock<Vec<FontRef>> = LazyLock::new(|| {
    BUNDLED.iter().filter_map(|bytes| FontRef::try_from_slice(bytes).ok()).collect()
});

/// Initialized when first needed, because reading all fonts of a system is slow.
static INSTALLED: OnceLock<Mutex<Installed>> = OnceLock::new();

/// Returns the font of letters.
pub fn first() -> Option<Face> {
    PARSED.first()
}

/// Returns a font that has `character`, if there is one.
pub fn with(character: char) -> Option<Face> {
    let bundled = PARSED.iter().find(|font| font.glyph_id(character).0 != 0);
    let installed = || {
        let mut database = Database::new();
        database.load_system_fonts();
        Mutex::new(Installed::new(database))
    };
    bundled.or_else(|| {
        INSTALLED
            .get_or_init(installed)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .with(character)
    })
}

/// Returns a warning about the characters that were drawn as boxes since the last call. Each
/// character is named only once.
pub fn warning() -> Option<String> {
    INSTALLED.get()?.lock().unwrap_or_else(PoisonError::into_inner).warning()
}

/// The fonts of the system, with a cache of lookups.
struct Installed {
    database: Database,
    /// The faces in order of preference.
    faces: Vec<ID>,
    /// The faces that are in use, which stay in memory.
    used: BTreeMap<ID, Face>,
    /// The results of lookups.
    cache: BTreeMap<char, Option<Face>>,
    /// Characters that no font has and that were not yet in a warning.
    missing: BTreeSet<char>,
}

impl Installed {
    fn new(database: Database) -> Self {
        let mut faces: Vec<&FaceInfo> =
            database.faces().filter(|face| !names(face).contains("lastresort")).collect();
        faces.sort_by_cached_key(|face| preference(face));
        let faces = faces.iter().map(|face| face.id).collect();
        Self {
            database,
            faces,
            used: BTreeMap::new(),
            cache: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    fn with(&mut self, character: char) -> Option<Face> {
        if let Some(face) = self.cache.get(&character) {
            return *face;
        }
        let found = self.find(character);
        self.cache.insert(character, found);
        // Characters of width 0, such as combining marks, are not drawn as boxes, so they need no
        // warning.
        if found.is_none() && character.width() != Some(0) {
            self.missing.insert(character);
        }
        found
    }

    fn find(&mut self, character: char) -> Option<Face> {
        let has = |bytes: &[u8], index| {
            FontRef::try_from_slice_and_index(bytes, index)
                .is_ok_and(|font| draws(&font, character))
        };
        let id =
            *self.faces.iter().find(|id| self.database.with_face_data(**id, has) == Some(true))?;
        if let Some(face) = self.used.get(&id) {
            return Some(face);
        }
        let (bytes, index) =
            self.database.with_face_data(id, |bytes, index| (bytes.to_vec(), index))?;
        let font =
            FontRef::try_from_slice_and_index(Box::leak(bytes.into_boxed_slice()), index).ok()?;
        let face: Face = Box::leak(Box::new(font));
        self.used.insert(id, face);
        Some(face)
    }

    fn warning(&mut self) -> Option<String> {
        const NAMED: usize = 12;
        let missing = std::mem::take(&mut self.missing);
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
        let package = if missing.iter().any(|c| is_east_asian(*c)) {
            "fonts-noto-cjk"
        } else {
            "fonts-noto-core"
        };
        Some(format!(
            "no font has {}{more}: figures show boxes instead; install a font that has them, such as Noto \
             (Debian and Ubuntu: `apt install {package}`)",
            named.join(", ")
        ))
    }
}

/// Returns whether a font has an outline for a character. Fonts of colored bitmaps have none.
fn draws(font: &FontRef, character: char) -> bool {
    let id = font.glyph_id(character);
    id.0 != 0 && (character.is_whitespace() || font.outline(id).is_some())
}

/// Returns the family names of a face, in lowercase and without spaces.
fn names(face: &FaceInfo) -> String {
    face.families
        .iter()
        .flat_map(|(name, _)| name.chars())
        .filter(|c| *c != ' ')
        .collect::<String>()
        .to_lowercase()
}

/// Returns the sort key of a face: upright before italic, normal weight first, sans-serif before
/// serif, proportional before monospaced, simplified Chinese before other East Asian variants, then
/// by name.
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

/// Returns whether a character is a Han character, kana, hangul, or punctuation or a form used with
/// them.
fn is_east_asian(character: char) -> bool {
    matches!(character, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_font_can_be_parsed() {
        assert_eq!(PARSED.len(), BUNDLED.len());
    }

    #[test]
    fn installed_fonts_are_used_for_characters_that_bundled_fonts_lack() {
        let mut database = Database::new();
        database.load_font_data(include_bytes!("../../tests/goldens/one.ttf").to_vec());
        let mut installed = Installed::new(database);
        let font = installed.with('雛').unwrap();
        assert!(draws(font, '雛') && std::ptr::eq(font, installed.with('\u{10fffd}').unwrap()));
        assert!(installed.with('菊').is_none());
        assert!(installed.warning().unwrap().contains("no font has 菊"));
    }

    #[test]
    fn a_missing_character_is_warned_of_once_with_a_package_to_install() {
        let mut none = Installed::new(Database::new());
        assert_eq!(none.warning(), None);
        for character in ['雛', '菊', '雛', '\u{fe0f}', '\u{301}'] {
            assert!(none.with(character).is_none());
        }
        let warning = none.warning().unwrap();
        assert!(
            warning.contains("菊 (U+83CA), 雛 (U+96DB)") && warning.contains("fonts-noto-cjk"),
            "{warning}"
        );
        assert!(none.with('雛').is_none());
        assert_eq!(none.warning(), None);
        for character in '\u{e000}'..'\u{e020}' {
            none.with(character);
        }
        let warning = none.warning().unwrap();
        assert!(
            warning.contains(" and 20 more") && warning.contains("fonts-noto-core`"),
            "{warning}"
        );
    }
}
