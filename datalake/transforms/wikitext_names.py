"""What Wikipedias of many languages call their files, their categories and their end sections."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Prefixes of links to files and categories: the English ones hold in every wiki, beside its own.
FILE_PREFIXES = _words(
    "file image datei bild fichier archivo imagen imatge fitxer immagine ficheiro arquivo imagem "
    "bestand afbeelding plik grafika файл изображение зображення fil billede tiedosto kuva fájl "
    "kép soubor súbor obrázok fișier imagine dosya resim berkas gambar tập_tin hình αρχείο "
    "εικόνα датотека слика картинка datoteka slika ファイル 画像 文件 檔案 档案 图像 圖像 "
    "파일 그림 ملف صورة پرونده "
    "تصویر קובץ תמונה चित्र ไฟล์ ภาพ mynd skrá vaizdas attēls dosiero fitxategi irudi ficheru "
    "imaxe"
)
CATEGORY_PREFIXES = _words(
    "category kategorie catégorie categoría categoria categorie kategoria категория категорія "
    "kategori luokka kategória thể_loại κατηγορία категорија катэгорыя kategorija "
    "カテゴリ 分类 分類 분류 تصنيف رده קטגוריה श्रेणी หมวดหมู่ flokkur kategorio catigoría"
)
# Languages have codes of two or three letters and a few longer ones; a bare link with such a
# prefix stands in the margin. These prefixes are of other things, whose links stand in the text.
NO_LANGUAGES = _words("doi mw rfc wp wmf")

# Sections that name sources, notes and further pages: lists of titles and addresses, which hold
# no sentence of the article. A section so named is dropped with all below it.
END_SECTIONS = frozenset(
    """
    see also|references|external links|further reading|notes|footnotes|sources|citations
    notes and references|references and notes|notes and citations|works cited|bibliography
    general references|general and cited references|cited sources|external sources
    siehe auch|weblinks|einzelnachweise|literatur|anmerkungen|belege|quellen|fußnoten
    anmerkungen und einzelnachweise
    voir aussi|notes et références|références|liens externes|bibliographie|articles connexes
    annexes|notes|sources|lien externe
    véase también|referencias|enlaces externos|notas|bibliografía|notas y referencias
    voci correlate|note|bibliografia|altri progetti|collegamenti esterni
    ver também|referências|ligações externas|notas|bibliografia|notas e referências
    zie ook|bronnen|referenties|externe links|externe link|literatuur|noten|voetnoten
    bronnen, noten en/of referenties
    zobacz też|przypisy|linki zewnętrzne|bibliografia|uwagi
    см. также|примечания|ссылки|литература|источники|сноски
    див. також|примітки|посилання|література|джерела
    se även|referenser|externa länkar|källor|noter|litteratur
    se også|referencer|referanser|eksterne henvisninger|eksterne lenker|kilder
    katso myös|lähteet|aiheesta muualla|kirjallisuutta|viitteet
    viz též|související články|reference|externí odkazy|poznámky
    vezi și|legături externe|referințe
    lásd még|források|jegyzetek|külső hivatkozások|további információk
    ayrıca bakınız|kaynakça|dış bağlantılar|notlar
    xem thêm|tham khảo|liên kết ngoài|chú thích
    lihat pula|referensi|pranala luar|catatan kaki
    δείτε επίσης|παραπομπές|εξωτερικοί σύνδεσμοι
    関連項目|脚注|外部リンク|参考文献|出典|注釈
    参见|參見|参考文献|參考文獻|参考资料|參考資料|外部链接|外部連結|外部鏈接|注释|註釋|脚注
    같이 보기|각주|외부 링크|참고 문헌
    انظر أيضا|انظر أيضًا|مراجع|المراجع|وصلات خارجية|روابط خارجية|ملاحظات|هوامش
    جستارهای وابسته|منابع|پیوند به بیرون|پانویس
    ראו גם|קישורים חיצוניים|הערות שוליים|לקריאה נוספת
    """.strip()
    .replace("\n", "|")
    .replace("    ", "")
    .split("|")
)
