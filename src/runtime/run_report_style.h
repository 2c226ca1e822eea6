/* SPDX-License-Identifier: Apache-2.0 */
/* The report's style sheet. Colours of the series are the classes c (line), b (area), d and e (second set: dashed, lighter). */
#ifndef PFL_RUNTIME_RUN_REPORT_STYLE_H
#define PFL_RUNTIME_RUN_REPORT_STYLE_H

#define PFL_REPORT_STYLE                                                                                                           \
    ":root{color-scheme:light dark;--bg:#fbfbf9;--card:#fff;--ink:#1c2127;--soft:#5d6772;--rule:#e3e5e2;--grid:#eceeeb;"           \
    "--good:#1a7f4b;--goodbg:#e5f4eb;--bad:#b3261e;--badbg:#fbe9e7;--warn:#8a5a00;--warnbg:#fdf3dc;--code:#f3f4f1;"                \
    "--s0:#2563c9;--s1:#d9580d;--s2:#23824a;--s3:#8e3aa8;--s4:#c02942;--s5:#0b7f93;--s6:#a17a00;--s7:#5a5f6b}\n"                   \
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f23;--ink:#e6e9ec;--soft:#98a2ac;--rule:#2d3339;"             \
    "--grid:#262b30;--good:#62c892;--goodbg:#16301f;--bad:#f28b82;--badbg:#3a1c1a;--warn:#e8b74d;--warnbg:#33270f;--code:#23282d;" \
    "--s0:#6ea4f5;--s1:#f59250;--s2:#5fc389;--s3:#c78bdc;--s4:#f07a8d;--s5:#54c3d4;--s6:#dcb443;--s7:#a3abb8}}\n"                  \
    "*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}\n"                                                                \
    "body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',"    \
    "'DejaVu Sans',sans-serif;font-variant-numeric:tabular-nums}\n"                                                                \
    "main{max-width:1120px;margin:0 auto;padding:44px 28px 60px}\n"                                                                \
    "h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0 0 6px;overflow-wrap:anywhere}\n"                            \
    "h2{font-size:19px;letter-spacing:-.005em;margin:46px 0 12px}\n"                                                               \
    ".sub{color:var(--soft);margin:0}.note{color:var(--soft);font-size:13.5px;margin:-6px 0 12px;max-width:120ch}\n"               \
    ".badge{display:inline-block;font-size:13px;font-weight:600;border-radius:99px;padding:2px 12px;margin:0 0 12px}\n"            \
    ".good{color:var(--good);background:var(--goodbg)}.bad{color:var(--bad);background:var(--badbg)}"                              \
    ".warn{color:var(--warn);background:var(--warnbg)}\n"                                                                          \
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:26px 0 0}\n"                     \
    ".tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:13px 16px}\n"                            \
    ".tile b{display:block;font-size:23px;font-weight:650;letter-spacing:-.01em;line-height:1.25}.tile span{color:var(--soft);"    \
    "font-size:13px}\n"                                                                                                            \
    ".hash{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:11px 16px;margin:12px 0 0;"              \
    "font-size:14px;overflow-wrap:anywhere}\n"                                                                                     \
    ".callout{border-radius:10px;padding:12px 16px;margin:12px 0 0;overflow-wrap:anywhere}.callout b{font-weight:650}\n"           \
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:14px}\n"                                    \
    "figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px 10px}\n"             \
    "figure.wide{overflow-x:auto}figcaption{font-weight:600;font-size:14.5px;margin:0 0 8px}figcaption small{font-weight:400;"     \
    "color:var(--soft);font-size:13px}\n"                                                                                          \
    "svg{display:block;width:100%;height:auto;font-family:inherit}.t{fill:var(--soft);font-size:11.5px}\n"                         \
    ".grid{stroke:var(--grid);stroke-width:1}.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}"         \
    ".line.d1{stroke-dasharray:6 4}.line.gap{stroke-width:1;stroke-dasharray:2 4;opacity:.45}\n"                                   \
    ".c0{stroke:var(--s0)}.c1{stroke:var(--s1)}.c2{stroke:var(--s2)}.c3{stroke:var(--s3)}.c4{stroke:var(--s4)}"                    \
    ".c5{stroke:var(--s5)}.c6{stroke:var(--s6)}.c7{stroke:var(--s7)}\n"                                                            \
    ".b0{fill:var(--s0);background:var(--s0)}.b1{fill:var(--s1);background:var(--s1)}.b2{fill:var(--s2);background:var(--s2)}"     \
    ".b3{fill:var(--s3);background:var(--s3)}.b4{fill:var(--s4);background:var(--s4)}.b5{fill:var(--s5);background:var(--s5)}"     \
    ".b6{fill:var(--s6);background:var(--s6)}.b7{fill:var(--s7);background:var(--s7)}.e1,.d1:not(.line){opacity:.55}\n"            \
    ".g0{fill:#4c78a8;background:#4c78a8}.g1{fill:#63b1ac;background:#63b1ac}.g2{fill:#5aa352;background:#5aa352}"                 \
    ".g3{fill:#e3bd2f;background:#e3bd2f}.g4{fill:var(--rule);background:var(--rule)}.g5{fill:#b279a2;background:#b279a2}"         \
    ".g6{fill:#e9873a;background:#e9873a}.g7{fill:#9d755d;background:#9d755d}\n"                                                   \
    ".legend{display:flex;flex-wrap:wrap;gap:2px 16px;margin:6px 0 0;font-size:13px;color:var(--soft)}\n"                          \
    ".legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}\n"              \
    ".scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px}\n"                            \
    "table{border-collapse:collapse;width:100%;font-size:13.5px}th,td{text-align:left;padding:7px 11px;vertical-align:top;"        \
    "border-top:1px solid var(--rule)}tr:first-child th,thead tr:first-child th{border-top:0}\n"                                   \
    "th{font-weight:600;color:var(--soft);font-size:12.5px;white-space:nowrap}td.n,th.n{text-align:right;white-space:nowrap}\n"    \
    "td.w{white-space:nowrap}code,.m{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace}\n"            \
    "details{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:10px 16px;margin:0 0 12px}"            \
    "summary{cursor:pointer;font-weight:600;font-size:14.5px}details .scroll{border:0;border-radius:0;margin:8px -16px -10px}\n"   \
    "pre{background:var(--code);border-radius:8px;padding:14px 16px;overflow-x:auto;font:12.5px/1.55 ui-monospace,"                \
    "SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace;margin:10px 0 4px}\n"                                                       \
    "footer{color:var(--soft);font-size:13px;margin:46px 0 0;border-top:1px solid var(--rule);padding:14px 0 0}\n"                 \
    "@media(max-width:560px){main{padding:24px 14px}.charts{grid-template-columns:1fr}h1{font-size:24px}}\n"                       \
    "@media print{body{background:#fff}.charts,.tile,figure{break-inside:avoid}}\n"

#endif
