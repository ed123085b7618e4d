#include "video_io/comparison_page.h"

namespace longtake {

// Series colours after Okabe and Ito, lightened for dark paper where they would drown.
const char* page_style() {
  return R"css(
:root{color-scheme:light dark;--paper:#fdfdfc;--ink:#1c1f24;--faint:#5b626d;--line:#d9dce1;--soft:#f1f2f4;--accent:#0b5fae;--warn:#fff6df;--warnline:#e0b33c;
--c0:#5b626d;--c1:#1c1f24;--c2:#d55e00;--c3:#0072b2;--c4:#009e73;--c5:#b0487f;--c6:#b8860b;--c7:#3d8fc9;--c8:#7a4fbf;--c9:#8c3b12}
@media (prefers-color-scheme:dark){:root{--paper:#15171b;--ink:#e8eaee;--faint:#a2a9b4;--line:#383d46;--soft:#20242a;--accent:#7ab8f5;--warn:#2e2817;--warnline:#a8842c;
--c0:#a2a9b4;--c1:#f2f4f7;--c2:#ff8a3d;--c3:#56b4e9;--c4:#3ccfa0;--c5:#e58abd;--c6:#f0c541;--c7:#9ad0f5;--c8:#b79cf0;--c9:#d98f5f}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.3rem;margin:44px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:24px 0 6px}
p{margin:8px 0;max-width:78ch}
a{color:var(--accent)}
.sub,.small,caption{color:var(--faint);font-size:.88rem}
p.sub{max-width:none}
.lead{font-size:1.08rem}
nav{margin:14px 0 0;font-size:.92rem}
nav a{margin-right:14px;white-space:nowrap}
.scroll{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:6px}
th,td{padding:5px 8px;text-align:right;vertical-align:top;border-bottom:1px solid var(--line);white-space:nowrap}
thead th{vertical-align:bottom;font-weight:600;border-bottom:2px solid var(--line)}
thead th.group{text-align:center;border-bottom:1px solid var(--line);color:var(--faint);font-weight:500}
th[scope=row]{text-align:left;font-weight:600;white-space:normal;min-width:12rem}
.policy{display:inline-flex}
.policy svg.mark{flex:none;margin-top:6px}
tbody tr:hover{background:var(--soft)}
.ci{display:block;color:var(--faint);font-size:.76rem}
.none{color:var(--faint)}
.warn{background:var(--warn);border-left:4px solid var(--warnline);padding:10px 16px;margin:14px 0;border-radius:0 6px 6px 0}
.warn ul{margin:6px 0;padding-left:20px}
.warn li{margin:4px 0;max-width:92ch}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:20px}
figure{margin:12px 0}
figcaption{color:var(--faint);font-size:.88rem;margin-top:4px}
svg.plot{width:100%;height:auto;display:block}
svg .grid{stroke:var(--line);stroke-width:.7}
svg .axis{fill:none;stroke:var(--faint);stroke-width:.8}
svg text{fill:var(--ink);font-size:11.5px}
svg text.tick,svg text.label{fill:var(--faint)}
svg .line{fill:none;stroke-width:1.8}
svg .bar{stroke-width:1.4;opacity:.55}
svg .window{stroke:var(--accent);stroke-width:1.4}
svg .chunk{stroke:var(--faint);stroke-width:.8;stroke-dasharray:2 4}
svg.mark{width:12px;height:12px;vertical-align:-1px;margin-right:6px}
.s0{fill:var(--c0);stroke:var(--c0)}.s1{fill:var(--c1);stroke:var(--c1)}.s2{fill:var(--c2);stroke:var(--c2)}.s3{fill:var(--c3);stroke:var(--c3)}
.s4{fill:var(--c4);stroke:var(--c4)}.s5{fill:var(--c5);stroke:var(--c5)}.s6{fill:var(--c6);stroke:var(--c6)}.s7{fill:var(--c7);stroke:var(--c7)}
.s8{fill:var(--c8);stroke:var(--c8)}.s9{fill:var(--c9);stroke:var(--c9)}
svg .line.s0,svg .line.s1,svg .line.s2,svg .line.s3,svg .line.s4,svg .line.s5,svg .line.s6,svg .line.s7,svg .line.s8,svg .line.s9{fill:none}
svg .name{stroke:none;fill:var(--ink)}
svg.mark *,svg g>circle,svg g>rect,svg g>path{stroke:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.9rem;margin:6px 0}
.ramp{display:inline-block;width:120px;height:11px;border-radius:2px;vertical-align:-1px;margin:0 6px}
video,.strip{max-width:100%;height:auto;display:block;border-radius:4px;background:#18191f}
video{width:100%}
.strips{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:6px 20px}
.strips figure{margin:4px 0 10px}
.strip{image-rendering:auto}
details{margin:8px 0}
summary{cursor:pointer;color:var(--accent)}
pre{background:var(--soft);padding:12px;border-radius:6px;overflow-x:auto;font-size:.82rem}
code{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,monospace;font-size:.92em}
@media print{nav,video{display:none}main{max-width:none}}
@media (max-width:520px){main{padding:20px 14px}.plots{grid-template-columns:1fr}}
)css";
}

}  // namespace longtake
