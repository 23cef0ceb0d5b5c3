// What a dashboard's file holds, by Grafana's own types.
//
// These say too little in two places: of a panel's options and of a query they know nothing. Both
// have types of their own, by the panel's kind, which are put in here.
import type { AnnotationQuery, Dashboard, DataQuery, Panel, RowPanel } from '@grafana/schema';
import type * as BarGauge from './node_modules/@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as Heatmap from './node_modules/@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as Stat from './node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as Table from './node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as Text from './node_modules/@grafana/schema/dist/types/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen';
import type * as TimeSeries from './node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// In a file an enumeration is the text or the number that it stands for.
export type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

// What Grafana's package has no type for: Prometheus's query (public/app/plugins/datasource).
interface Query extends Omit<DataQuery, 'datasource'> {
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  editorMode: 'code' | 'builder';
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  format: 'time_series' | 'table' | 'heatmap';
  exemplar: boolean;
}

type Known = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>;
interface Of<Type extends string, Options, Field = Record<string, never>> extends Known {
  type: Type;
  title: string;
  description: string;
  options: Options;
  fieldConfig: Omit<NonNullable<Panel['fieldConfig']>, 'defaults'> & {
    defaults: Omit<NonNullable<Panel['fieldConfig']>['defaults'], 'custom'> & {
      custom?: Partial<Field>;
    };
  };
  targets?: Query[];
}

// Of the two kinds of text for a cell that panels use Grafana has long types; this is the short form.
type Cells = Omit<Table.FieldConfig, 'cellOptions'> & { cellOptions: { type: 'auto' } };

type Ours =
  | Of<'stat', Stat.Options>
  | Of<'bargauge', BarGauge.Options>
  | Of<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>
  | Of<'heatmap', Heatmap.Options, Heatmap.FieldConfig>
  | Of<'table', Table.Options, Cells>
  | Of<'text', Text.Options>;

interface Tagged extends DataQuery {
  type: string;
  tags: string[];
  matchAny: boolean;
  limit: number;
}

type Board = Omit<Dashboard, 'annotations' | 'panels'> & {
  annotations: { list: Array<AnnotationQuery<Tagged>> };
  panels: Array<Ours | RowPanel>;
};

export type File = Plain<Board>;
